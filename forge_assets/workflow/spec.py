"""Loads a workflow file; every fault is one sentence with file, line and field."""

from collections.abc import Collection
from pathlib import Path

from forge_assets.workflow.rules import check_rules
from forge_assets.workflow.steps import (
    GenerateParams,
    OutputContract,
    Step,
    When,
    Workflow,
    WorkflowFile,
)
from forge_assets.yaml_document import load_document

__all__ = [
    "GenerateParams",
    "OutputContract",
    "Step",
    "When",
    "Workflow",
    "load_workflow",
]


def load_workflow(path: Path, model_keys: Collection[str]) -> Workflow:
    """Read and check one workflow file. ``model_keys`` are the models of forge.yaml.

    ConfigurationError, one sentence, for the first fault found.
    """
    document = load_document(path)
    content = document.validate(WorkflowFile)
    check_rules(document, content.steps, model_keys)
    return Workflow(content.workflow, content.steps, path, document)

"""Every file of the reference with its content."""

import json

from forge_assets.config import ConfigFile
from forge_assets.reference.cli_page import cli_page
from forge_assets.reference.environment_page import environment_page
from forge_assets.reference.forge_yaml_page import forge_yaml_page
from forge_assets.reference.json_schema import file_schema
from forge_assets.reference.workflow_page import workflow_page
from forge_assets.workflow.steps import WorkflowFile


def reference_files() -> dict[str, str]:
    """Path from the project's root -> text."""
    forge = file_schema(ConfigFile, "forge.yaml")
    workflow = file_schema(WorkflowFile, "A workflow file of forge-assets")
    return {
        "docs/reference/workflow.md": workflow_page(workflow),
        "docs/reference/forge-yaml.md": forge_yaml_page(forge),
        "docs/reference/cli.md": cli_page(),
        "docs/reference/environment.md": environment_page(),
        "docs/schemas/forge.schema.json": _text(forge),
        "docs/schemas/workflow.schema.json": _text(workflow),
    }


def _text(schema: dict[str, object]) -> str:
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"

"""One checkout as the program sees it: forge.yaml, its workflows and its stages."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from forge_assets.config import ForgeConfig, load_config, load_workflows
from forge_assets.stages import Stage, build_stages, stage_named
from forge_assets.workflow.plan import step_versions, topological_steps
from forge_assets.workflow.spec import Step, Workflow
from forge_assets.yaml_document import shown
from resources.errors import ConfigurationError, InfrastructureError

if TYPE_CHECKING:
    from resources.store_types import PlannedStep, StageScope


@dataclass(frozen=True)
class Project:
    """Read once per process; holds no connection."""

    config: ForgeConfig
    workflows: tuple[Workflow, ...]
    stages: tuple[Stage, ...]

    @property
    def output(self) -> Path:
        """Where results and reports are written: ``output`` beside forge.yaml."""
        return self.config.path.parent / "output"

    @property
    def stage_ranges(self) -> list[tuple[str, int, int]]:
        """Every stage as (key, first, end), as the store takes them."""
        return [(stage.key, stage.first, stage.end) for stage in self.stages]

    def stage(self, key: str) -> Stage:
        return stage_named(self.stages, key)

    def workflow(self, name: str | None) -> Workflow:
        """The named workflow, or the only one."""
        known = ", ".join(workflow.name for workflow in self.workflows)
        if name is None and len(self.workflows) == 1:
            return self.workflows[0]
        for workflow in self.workflows:
            if workflow.name == name:
                return workflow
        if name is None:
            raise ConfigurationError(f"--workflow is needed, there are several: {known}")
        raise ConfigurationError(f"--workflow {name}: no such workflow; known: {known}")

    def scope(self, workflow: Workflow, stage: Stage) -> "StageScope":
        from resources.store_types import StageScope

        return StageScope(self.config.dataset, workflow.name, stage.key, stage.first, stage.end)


@contextmanager
def naming_forge_yaml(config: ForgeConfig) -> Iterator[None]:
    """Puts the file in front of an error that names only a field of it."""
    try:
        yield
    except (ConfigurationError, InfrastructureError) as error:
        if not str(error).startswith(("subjects.", "models.")):
            raise
        raise type(error)(f"{shown(config.path)}: {error}") from None


@dataclass(frozen=True)
class WorkflowPlan:
    """A workflow with the content hashes of its steps."""

    project: Project
    workflow: Workflow

    @cached_property
    def versions(self) -> dict[str, str]:
        return step_versions(self.workflow, self.project.config.model_definitions)

    @cached_property
    def steps(self) -> "list[PlannedStep]":
        """In topological order."""
        from resources.store_types import PlannedStep

        return [
            PlannedStep(step.name, self.versions[step.name], step.model, root=not step.needs)
            for step in self.ordered
        ]

    @cached_property
    def ordered(self) -> list[Step]:
        return list(topological_steps(self.workflow))

    @property
    def workflow_option(self) -> str:
        """What the commands that we name need before ``--stage``, where a project has several workflows."""
        several = len(self.project.workflows) > 1
        return f"--workflow {self.workflow.name} " if several else ""

    @property
    def models(self) -> list[str]:
        """Model keys in the order of first use."""
        return list(dict.fromkeys(step.model for step in self.ordered))


def load_project() -> Project:
    """forge.yaml and every workflow that it names. ConfigurationError names file, line and field."""
    config = load_config()
    return Project(config, load_workflows(config), build_stages(config.stages, config.batches))

"""What several commands need: the project, the store, and the two ways to print."""

import sys

from forge_assets.project import Project, WorkflowPlan, load_project
from resources.interaction_store import InteractionStore
from resources.plain_text import visible


def plan_of(workflow: str | None) -> WorkflowPlan:
    """The plan of the named workflow, or of the only one."""
    project: Project = load_project()
    return WorkflowPlan(project, project.workflow(workflow))


def plans_of(workflow: str | None) -> list[WorkflowPlan]:
    """The plans of every workflow, or of the named one."""
    project = load_project()
    chosen = [project.workflow(workflow)] if workflow else list(project.workflows)
    return [WorkflowPlan(project, each) for each in chosen]


def open_store() -> InteractionStore:
    """The store on the one database, migrated."""
    from resources.database import open_engine

    return InteractionStore(open_engine())


def out(text: str) -> None:
    """The one way to standard output: what a model or a record holds never commands the terminal."""
    print(visible(text))  # noqa: T201


def tell(text: str) -> None:
    """The same on stderr, at once: progress, and what went wrong."""
    print(visible(text), file=sys.stderr, flush=True)  # noqa: T201

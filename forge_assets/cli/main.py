"""The `forge` command: options and exit codes. Every command's work is imported when it is called."""

import functools
import os
import sys
from collections.abc import Callable
from typing import Annotated, Any

import typer

from resources.errors import ConfigurationError, ForgeError, InfrastructureError

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="LLM workflows over many subjects as Dagster assets: staged, gated, measured."
    " Exit codes: 0 done, 1 the answer is no, 2 usage or configuration error.",
)

Stage = Annotated[str, typer.Option("--stage", help="Partition key, for example canary-10.")]
MaybeStage = Annotated[str | None, typer.Option("--stage", help="Partition key; all when absent.")]
WorkflowName = Annotated[
    str | None, typer.Option("--workflow", help="Needed when forge.yaml names several workflows.")
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")]
Step = Annotated[str | None, typer.Option("--step", help="Only this step, with its descendants.")]
MaxSubjects = Annotated[
    int | None, typer.Option("--max-subjects", min=1, help="The first N unfinished subjects only.")
]
MaxInteractions = Annotated[
    int | None, typer.Option("--max-interactions", min=1, help="Stop after N interactions.")
]
Workers = Annotated[int, typer.Option("--workers", min=1, help="Workers in this run; only 1 yet.")]


def main() -> None:
    """Entry point of the `forge` script."""
    from forge_assets.config import project_root

    if not os.environ.get("DAGSTER_HOME"):
        os.environ["DAGSTER_HOME"] = str(project_root())
    os.environ.setdefault("DAGSTER_DISABLE_TELEMETRY", "yes")
    app()


def answers(command: Callable[..., int]) -> Callable[..., None]:
    """Turns a command's answer into its exit code, and an error into one line on stderr."""

    @functools.wraps(command)
    def wrapper(*args: Any, **options: Any) -> None:
        try:
            check_dagster_home()
            code = command(*args, **options)
        except ForgeError as error:
            code = say(error)
        except database_errors() as error:
            reason = " ".join(str(error).split("\n", 1)[0].split())
            code = say(InfrastructureError(f"the database does not answer: {reason}"))
        except KeyboardInterrupt:
            from forge_assets.cli.open import INTERRUPTED

            code = INTERRUPTED
        raise typer.Exit(code)

    return wrapper


def say(error: ForgeError) -> int:
    """One line on stderr; the exit code."""
    print(f"forge: {error}", file=sys.stderr)  # noqa: T201
    return error.exit_code


def check_dagster_home() -> None:
    """ConfigurationError when the folder is none: Dagster would answer with a traceback."""
    home = os.environ["DAGSTER_HOME"]
    if not os.path.isabs(home) or not os.path.isdir(home):
        from forge_assets.config import project_root

        raise ConfigurationError(
            f"DAGSTER_HOME is '{home}', which is no folder with an absolute path:"
            f" set DAGSTER_HOME to {project_root()}"
        )


def database_errors() -> type[Exception]:
    """What a lost connection raises; looked up only when something was raised."""
    from sqlalchemy.exc import DBAPIError

    return DBAPIError


@app.command()
@answers
def status(json: Json = False, workflow: WorkflowName = None) -> int:
    """Every stage with its counts, rates and verdict."""
    from forge_assets.cli import status

    return status.show(workflow, json)


@app.command()
@answers
def preflight(stage: MaybeStage = None, workflow: WorkflowName = None, json: Json = False) -> int:
    """GO or NO-GO for a stage, one line per criterion; the next stage when none is named."""
    from forge_assets.cli import preflight

    return preflight.show(workflow, stage, json)


@app.command()
@answers
def plan(stage: Stage, workflow: WorkflowName = None, json: Json = False) -> int:
    """What a run of the stage would do; generates nothing."""
    from forge_assets.cli import plan

    return plan.show(workflow, stage, json)


@app.command()
@answers
def run(
    stage: Stage,
    workflow: WorkflowName = None,
    max_subjects: MaxSubjects = None,
    max_interactions: MaxInteractions = None,
    workers: Workers = 1,
    json: Json = False,
) -> int:
    """Materialize a stage: the same assets, checks and events as in Dagster."""
    from forge_assets.cli import run

    if workers != 1:
        raise ConfigurationError(f"--workers {workers}: only 1 worker is supported yet")
    return run.run_stage(workflow, stage, max_subjects, max_interactions, json)


@app.command()
@answers
def trace(
    what: Annotated[str, typer.Argument(metavar="SUBJECT_KEY|INTERACTION_ID")],
    json: Json = False,
) -> int:
    """Every prompt, output, verdict and attempt of a subject or an interaction, as Markdown."""
    from forge_assets.cli import trace

    return trace.show(what, json)


@app.command()
@answers
def retry(
    stage: Stage,
    status: Annotated[str, typer.Option("--status", help="failed or rejected.")],
    step: Step = None,
    workflow: WorkflowName = None,
    json: Json = False,
) -> int:
    """Do failed or rejected interactions again, with all descendants, and evaluate the checks."""
    from forge_assets.cli import run

    return run.retry_stage(workflow, stage, status, step, json)


@app.command()
@answers
def report(stage: MaybeStage = None, workflow: WorkflowName = None, json: Json = False) -> int:
    """The report of a stage, or all stages side by side against their targets, as Markdown."""
    from forge_assets.cli import report

    return report.show(workflow, stage, json)


@app.command()
@answers
def bench(json: Json = False) -> int:
    """Measure our engine against sequential generation on this machine."""
    from forge_assets.cli import bench

    return bench.measure(json)


if __name__ == "__main__":
    main()

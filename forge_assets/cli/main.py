"""The `forge` command: options and exit codes. Every command's work is imported when it is called."""

import functools
import os
import sys
from collections.abc import Callable
from typing import Annotated, Any

import typer

from forge_assets.cli.exit_codes import INTERRUPTED, READER_GONE
from forge_assets.cli.output import Output
from forge_assets.config import MAX_WORKERS
from resources.database_errors import database_errors, database_sentence
from resources.errors import ConfigurationError, ForgeError, InfrastructureError

MOST = 2_000_000_000
"""Counts in the database are 32-bit integers."""

USAGE_ERROR: Any = typer.BadParameter.__base__
"""What a wrong command line raises: Typer's own class or click's, as its version has it."""

app = typer.Typer(
    add_completion=False,
    pretty_exceptions_enable=False,
    help="LLM workflows over many subjects as Dagster assets: staged, gated, measured."
    " Exit codes: 0 done, 1 the answer is no, 2 usage or configuration error.",
)

Stage = Annotated[
    str, typer.Option("--stage", metavar="KEY", help="Partition key, for example canary-10.")
]
MaybeStage = Annotated[
    str | None, typer.Option("--stage", metavar="KEY", help="Partition key; all when absent.")
]
StageOrNext = Annotated[
    str | None,
    typer.Option("--stage", metavar="KEY", help="Partition key; the next stage when absent."),
]
WorkflowName = Annotated[
    str | None,
    typer.Option(
        "--workflow", metavar="NAME", help="Needed when forge.yaml names several workflows."
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")]
Step = Annotated[
    str | None, typer.Option("--step", metavar="NAME", help="Only this step, with its descendants.")
]
MaxSubjects = Annotated[
    int | None,
    typer.Option(
        "--max-subjects", metavar="N", min=1, max=MOST, help="The first N unfinished subjects only."
    ),
]
MaxInteractions = Annotated[
    int | None,
    typer.Option(
        "--max-interactions", metavar="N", min=1, max=MOST, help="Stop after N interactions."
    ),
]
Workers = Annotated[
    int | None,
    typer.Option(
        "--workers",
        metavar="N",
        min=1,
        max=MAX_WORKERS,
        help="How many workers share what servers do; 5 when absent.",
    ),
]


def main() -> None:
    """Entry point of the `forge` script."""
    try:
        sys.exit(_main())
    except KeyboardInterrupt:
        # Also while a command's work is still being imported.
        sys.exit(INTERRUPTED)


def _main() -> int:
    from forge_assets.config import project_root

    if not os.environ.get("DAGSTER_HOME"):
        os.environ["DAGSTER_HOME"] = str(project_root())
    os.environ.setdefault("DAGSTER_DISABLE_TELEMETRY", "yes")
    output = Output()
    code = parsed_and_run()
    fault = output.fault()
    if isinstance(fault, BrokenPipeError):
        return code or READER_GONE
    if fault is not None:
        return say(InfrastructureError(f"cannot write to standard output: {fault.strerror}"))
    return code


def parsed_and_run() -> int:
    """The exit code of the command line; what is wrong with it is one line on stderr."""
    arguments = sys.argv[1:]
    try:
        for argument in arguments:
            argument.encode()
        code = app(arguments or ["--help"], standalone_mode=False) or 0
        return code if arguments else ConfigurationError.exit_code
    except UnicodeEncodeError as error:
        if error.object not in arguments:
            raise
        return say(ConfigurationError(f"the argument {error.object!r} is not UTF-8 text"))
    except USAGE_ERROR as error:
        return say(ConfigurationError(" ".join(error.format_message().split())))
    except typer.Abort:
        return INTERRUPTED


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
            code = say(database_sentence(error))
        except KeyboardInterrupt:
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


@app.command()
@answers
def status(json: Json = False, workflow: WorkflowName = None) -> int:
    """Every stage with its counts, rates and verdict."""
    from forge_assets.cli import status

    return status.show(workflow, json)


@app.command()
@answers
def preflight(stage: StageOrNext = None, workflow: WorkflowName = None, json: Json = False) -> int:
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
    workers: Workers = None,
    json: Json = False,
) -> int:
    """Materialize a stage: the same assets, checks and events as in Dagster."""
    from forge_assets.cli import run

    return run.run_stage(workflow, stage, max_subjects, max_interactions, workers, json)


@app.command()
@answers
def work(
    stage: Stage, workflow: WorkflowName = None, workers: Workers = None, json: Json = False
) -> int:
    """Join the work on a stage from another shell or host; `forge run` ends it with its checks."""
    from forge_assets.cli import work

    return work.join_stage(workflow, stage, workers, json)


@app.command()
@answers
def trace(
    what: Annotated[
        str, typer.Argument(metavar="SUBJECT_KEY|INTERACTION_ID", help="What to trace.")
    ],
    json: Json = False,
) -> int:
    """Every prompt, output, verdict and attempt of a subject or an interaction, as Markdown."""
    from forge_assets.cli import trace

    return trace.show(what, json)


@app.command()
@answers
def retry(
    stage: Stage,
    status: Annotated[
        str, typer.Option("--status", metavar="STATUS", help="failed, rejected or completed.")
    ],
    step: Step = None,
    workflow: WorkflowName = None,
    json: Json = False,
) -> int:
    """Do what ended so again, with all descendants, and evaluate the checks."""
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
def launch(
    job: Annotated[
        str | None,
        typer.Argument(help="Its key in cloud.jobs; not needed when it is the only one."),
    ] = None,
    direct: Annotated[
        bool, typer.Option("--direct", help="Create the job here, past the queue.")
    ] = False,
    json: Json = False,
) -> int:
    """Launch a job on Vertex AI and see that it is there: exit 0 when it was submitted."""
    from forge_assets.cli import launch

    return launch.run(job, direct, json)


@app.command()
@answers
def monitor(
    table: Annotated[
        list[str] | None,
        typer.Option("--table", metavar="TABLE", help="Only this table; may be repeated."),
    ] = None,
    watch: Annotated[bool, typer.Option("--watch", help="Go on until Ctrl+C.")] = False,
    json: Json = False,
) -> int:
    """Runners, builds, jobs and W&B runs of all regions; exit 1 when a region could not be read."""
    from forge_assets.cli import monitor

    return monitor.show(table or [], watch, json)


@app.command()
@answers
def diagnose(
    execution: Annotated[
        str, typer.Argument(help="An execution of the runner, a job, or a launch.")
    ],
    json: Json = False,
) -> int:
    """Why it failed: from what the APIs say, then from its logs."""
    from forge_assets.cli import diagnose

    return diagnose.show(execution, json)


@app.command()
@answers
def cancel(
    launch: Annotated[str, typer.Argument(help="Its id, or the first digits; or a job's number.")],
    json: Json = False,
) -> int:
    """End a launch: take its item from the queue, cancel its job."""
    from forge_assets.cli import cancel

    return cancel.run(launch, json)


@app.command()
@answers
def bench(json: Json = False) -> int:
    """Measure every installed engine against sequential generation on this machine.

    Takes some 20 minutes on 2 cores and writes bench/NAME.json and .md into the checkout.
    """
    from forge_assets.cli import bench

    return bench.measure(json)


if __name__ == "__main__":
    main()

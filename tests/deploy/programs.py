"""Command lines of forge and of Dagster's programs, parsed by themselves; nothing is executed."""

from collections.abc import Sequence
from typing import Any

from tests.pipeline.project import ROOT

CHECKOUT = "/opt/forge"
"""Where the image and the units have the project."""


def parse(words: Sequence[str]) -> dict[str, Any]:
    """The options of a command line, with paths of this checkout; click's exception when it is none."""
    command: Any = _program(words[0])
    arguments = [word.replace(f"{CHECKOUT}/", f"{ROOT}/") for word in words[1:]]
    # Typer brings a click of its own: no common class tells groups from commands.
    while hasattr(command, "get_command"):
        command = command.get_command(None, arguments.pop(0))
        assert command is not None, f"no such command: {' '.join(words)}"
    with command.make_context(words[0], arguments) as context:
        return dict(context.params)


def _program(name: str) -> Any:
    if name == "dagster":
        from dagster._cli import create_dagster_cli

        return create_dagster_cli()
    if name == "dagster-daemon":
        from dagster._daemon.cli import create_dagster_daemon_cli

        return create_dagster_daemon_cli()
    if name == "dagster-webserver":
        from dagster_webserver.cli import create_dagster_webserver_cli

        return create_dagster_webserver_cli()
    assert name == "forge", name
    import typer.main

    from forge_assets.cli.main import app

    return typer.main.get_command(app)

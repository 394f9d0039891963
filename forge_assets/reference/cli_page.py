"""docs/reference/cli.md, from the commands themselves."""

from collections.abc import Iterator
from typing import Any

import typer.main

from forge_assets.cli.exit_codes import MEANINGS
from forge_assets.reference.sections import NOTE, paragraph, table

_TOP = f"""\
{NOTE}

# The forge command: reference

Every command says the same with `--help`. Answers go to stdout, an error is one line on stderr.
"""


def cli_page() -> str:
    from forge_assets.cli.main import app

    group: Any = typer.main.get_command(app)
    commands = group.commands
    contents = paragraph(", ".join(f"[{name}](#forge-{name})" for name in commands))
    codes = table(("exit code", "means"), [(str(code), words) for code, words in MEANINGS.items()])
    sections = [_section(name, command) for name, command in commands.items()]
    return "\n\n".join((_TOP.rstrip(), contents, "## Exit codes", codes, *sections)) + "\n"


def _section(name: str, command: Any) -> str:
    shown = [each for each in command.params if not each.hidden]
    words = ["forge", name, *(_usage(each) for each in shown)]
    parts = [
        f"## forge {name}",
        "\n".join(line.rstrip() for line in command.help.splitlines()),
        f"```text\n{' '.join(words)}\n```",
        table(("argument", "required", "meaning"), [tuple(_row(each)) for each in shown]),
    ]
    return "\n\n".join(parts)


def _usage(parameter: Any) -> str:
    text = _named(parameter)
    return text if parameter.required else f"[{text}]" + ("..." if parameter.multiple else "")


def _named(parameter: Any) -> str:
    """``--stage KEY``; an argument is its value alone."""
    value = parameter.metavar or parameter.name.upper()
    if parameter.param_type_name == "argument":
        return str(value)
    option = max(parameter.opts, key=len)
    return option if parameter.is_flag else f"{option} {value}"


def _row(parameter: Any) -> Iterator[str]:
    yield f"`{_named(parameter)}`"
    yield "yes" if parameter.required else "no"
    low, high = getattr(parameter, "min", None), getattr(parameter, "max", None)
    between = "" if low is None or high is None else f" From {low:,} to {high:,}."
    yield parameter.help + between

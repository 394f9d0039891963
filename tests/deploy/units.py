"""The systemd units of deploy/systemd, and their programs started as they stand there."""

import os
import shlex
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

from tests.deploy.programs import CHECKOUT
from tests.pipeline.project import ROOT

FOLDER = ROOT / "deploy" / "systemd"
PREFIX = "forge-assets-"
COMMON = FOLDER / f"{PREFIX}.service.d" / "common.conf"
SERVICES = ("database", "code", "webserver", "daemon")


@dataclass(frozen=True)
class Unit:
    """Section -> name -> the values in their order."""

    sections: dict[str, dict[str, list[str]]]

    def all(self, section: str, name: str) -> list[str]:
        return self.sections.get(section, {}).get(name, [])

    def last(self, name: str) -> str | None:
        """Of the section Service: what holds, for a name that takes one value."""
        values = self.all("Service", name)
        return values[-1] if values else None

    def with_more(self, other: "Unit") -> "Unit":
        """As systemd adds a drop-in."""
        merged: dict[str, dict[str, list[str]]] = {}
        for sections in (self.sections, other.sections):
            for section, values in sections.items():
                names = merged.setdefault(section, {})
                for name, given in values.items():
                    names[name] = [*names.get(name, []), *given]
        return Unit(merged)


def read(path: Path) -> Unit:
    sections: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    section = ""
    for line in path.read_text().replace("\\\n", " ").splitlines():
        if not line or line.startswith("#"):
            continue
        if line.startswith("["):
            section = line.strip("[]")
            continue
        name, equals, value = line.partition("=")
        assert section, f"{path.name}: '{line}' before any section"
        assert equals, f"{path.name}: {line}"
        sections[section][name].append(value)
    return Unit(sections)


def service(name: str) -> Unit:
    """One of SERVICES with what all have in common."""
    return read(FOLDER / f"{PREFIX}{name}.service").with_more(read(COMMON))


def command(name: str) -> list[str]:
    """The service's program and its arguments as they stand in the unit."""
    (line,) = service(name).all("Service", "ExecStart")
    return shlex.split(line)


def module_of(program: str) -> list[str]:
    """Arguments of the interpreter for a program of the checkout's virtual environment."""
    name = os.path.basename(program)
    modules = {
        "python": [],
        "dagster": ["-m", "dagster"],
        "dagster-webserver": ["-m", "dagster_webserver"],
        "dagster-daemon": ["-m", "dagster._daemon"],
    }
    assert program.startswith(f"{CHECKOUT}/.venv/bin/"), program
    return modules[name]

"""The fenced blocks of a page, and a shell that runs them one after the other, as a reader would.

A comment on the line above a block says how it is meant:
``<!-- by hand: WHY -->`` it is parsed and not run; ``<!-- exit 1 -->`` its last command says no.
"""

import os
import re
import shlex
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from forge_assets.config import project_root

ROOT = project_root()
PATIENCE_SECONDS = 600
_FENCED = re.compile(
    r"^(?:<!-- (?P<note>[^\n]*) -->\n)?```(?P<language>\w+)\n(?P<text>.*?)^```$", re.S | re.M
)
_FOREIGN = ("DAGSTER_", "FORGE_", "XDG_", "HF_")
_PROGRAMS = {
    "python": "",
    "forge": "-m forge_assets.cli.main",
    "dagster": "-m dagster",
    "apprise": "-c 'from apprise.cli import main; main()'",
}
# What a block exported, and where it went, is so for the next one.
_KEEP = """trap 'declare -px > {state}; printf "cd %q\\n" "$PWD" >> {state}' EXIT"""


@dataclass(frozen=True)
class Block:
    language: str
    text: str
    note: str
    line: int

    @property
    def by_hand(self) -> bool:
        return self.note.startswith("by hand: ")

    @property
    def exit_code(self) -> int:
        found = re.fullmatch(r"exit (\d+)", self.note)
        return int(found[1]) if found else 0


@dataclass(frozen=True)
class Ran:
    code: int
    out: str
    err: str
    seconds: float

    @property
    def text(self) -> str:
        return self.out + self.err


def blocks(page: Path, *languages: str) -> list[Block]:
    """Those of the page in order; of all languages when none is named."""
    text = page.read_text()
    found = [
        Block(
            made["language"],
            made["text"],
            made["note"] or "",
            text.count("\n", 0, made.start("language")) + 1,
        )
        for made in _FENCED.finditer(text)
    ]
    return [block for block in found if not languages or block.language in languages]


class Reader:
    """Somebody with a clone of the repository, a home of their own and nothing else set."""

    def __init__(self, folder: Path, database: str, cache: Path) -> None:
        """``folder``: an empty one, for home and clone. ``cache``: converted weights."""
        self.home = folder / "home"
        self.clone = folder / "clone"
        self._state = folder / "state.sh"
        self._state.write_text("")
        self.home.mkdir()
        self.clone.mkdir()
        for entry in ROOT.iterdir():
            if not entry.name.startswith(".") and entry.name not in ("mine", "output"):
                (self.clone / entry.name).symlink_to(entry)
        programs = self.clone / ".venv/bin"
        programs.mkdir(parents=True)
        for name, start in _PROGRAMS.items():
            path = programs / name
            path.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} {start} "$@"\n')
            path.chmod(0o755)
        inherited = {
            name: text for name, text in os.environ.items() if not name.startswith(_FOREIGN)
        }
        self.environment = inherited | {
            "HOME": str(self.home),
            "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT),
            "FORGE_CACHE": str(cache),
            "FORGE_DATABASE_URL": database,
            # Threads that spin for each other crawl where cores are shared.
            "OMP_NUM_THREADS": "1",
        }

    def run(self, text: str) -> Ran:
        """The block in bash, which ends at the first command that fails."""
        state = shlex.quote(str(self._state))
        script = (
            f"cd {shlex.quote(str(self.clone))}\n. {state}\n{_KEEP.format(state=state)}\n{text}"
        )
        begun = time.monotonic()
        process = subprocess.Popen(
            ["bash", "-euo", "pipefail", "-c", script],
            cwd=self.clone,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        try:
            out, err = process.communicate(timeout=PATIENCE_SECONDS)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        return Ran(process.returncode, out, err, time.monotonic() - begun)


def same(text: str) -> str:
    """A line as it is compared: numbers and widths differ from run to run."""
    return re.sub(r"\d+(\.\d+)?", "N", " ".join(text.split()))

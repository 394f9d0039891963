"""Watches what the interpreter does while hostile input is worked on."""

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.hostile.payloads import CANARY

INPUT_SECONDS = 20.0
"""For one input, on a machine that others use too. A pattern alone may take its second."""

_NEVER = frozenset(
    {"os.system", "os.exec", "os.fork", "os.forkpty", "os.posix_spawn", "os.spawn", "os.kill"}
    | {"subprocess.Popen", "pty.spawn", "socket.connect", "socket.bind", "socket.getaddrinfo"}
    | {"urllib.Request", "http.client.connect", "pickle.find_class", "code.__new__"}
    | {"webbrowser.open", "marshal.loads", "ctypes.dlopen", "ftplib.connect", "smtplib.connect"}
)
_CHANGES_FILES = frozenset(
    {"os.remove", "os.rename", "os.mkdir", "os.rmdir", "os.chmod", "os.chown", "os.link"}
    | {"os.symlink", "os.truncate", "os.utime", "shutil.rmtree", "shutil.copyfile", "shutil.move"}
)
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


@dataclass
class Guard:
    """Audit hooks cannot be removed: one is added, and listens while a guard is on."""

    folder: Path
    """The only place where files may be written."""
    seen: list[str] = field(default_factory=list)
    slowest: tuple[float, str] = (0.0, "")

    @contextmanager
    def one(self, name: str) -> Iterator[None]:
        """Around one input: what it did that it must not, and how long it took."""
        began = time.monotonic()
        _listening.append(self)
        try:
            yield
        finally:
            _listening.remove(self)
            self.slowest = max(self.slowest, (time.monotonic() - began, name))
        assert not self.seen, f"{name}: {self.seen}"

    def check(self) -> None:
        """After all of them."""
        assert not CANARY.exists(), "a payload was run"
        assert self.slowest[0] < INPUT_SECONDS, self.slowest

    def hear(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event in _NEVER or (
            event in _CHANGES_FILES and not self._inside(arguments[0] if arguments else "")
        ):
            self.seen.append(f"{event}{arguments!r}"[:300])
        elif event == "open":
            path, _, flags = arguments
            writes = isinstance(flags, int) and flags & _WRITES
            if writes and not isinstance(path, int) and not self._inside(path):
                self.seen.append(f"open to write {path!r}")
        elif event == "exec":
            # An import runs the code of a file; a text that is run has a name such as <string>.
            name = getattr(arguments[0], "co_filename", "")
            if name.startswith("<") and not name.startswith("<frozen"):
                self.seen.append(f"exec of {name}")

    def _inside(self, path: object) -> bool:
        text = os.fsdecode(path) if isinstance(path, str | bytes | os.PathLike) else ""
        return Path(os.path.abspath(text)).is_relative_to(self.folder)


_listening: list[Guard] = []


def _hook(event: str, arguments: tuple[Any, ...]) -> None:
    if _listening:
        _listening[-1].hear(event, arguments)


sys.addaudithook(_hook)

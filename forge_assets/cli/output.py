"""Standard output that a command may always write to, whatever lies behind it."""

import io
import sys
from typing import Any


class _Sink(io.FileIO):
    """Swallows what cannot be written, and notes why: a run must not die of a reader that left."""

    fault: OSError | None = None

    def write(self, data: Any) -> int:
        if self.fault is None:
            try:
                return super().write(data)
            except OSError as error:
                self.fault = error
        return memoryview(data).nbytes


class Output:
    """In place of ``sys.stdout``; characters that its encoding lacks become escapes."""

    def __init__(self) -> None:
        self._sink: _Sink | None = None
        given = sys.stdout
        if isinstance(given, io.TextIOWrapper):  # None when it was closed
            given.flush()
            self._sink = _Sink(given.fileno(), "w", closefd=False)
            sys.stdout = io.TextIOWrapper(
                io.BufferedWriter(self._sink),
                encoding=given.encoding,
                errors="backslashreplace",
                line_buffering=given.line_buffering,
                write_through=given.write_through,
            )

    def fault(self) -> OSError | None:
        """Why some of what was printed so far did not arrive, if so."""
        if self._sink is None:
            return None
        sys.stdout.flush()
        return self._sink.fault


def reader_left() -> bool:
    """Whether what was printed so far did not arrive: whoever goes on and on may end."""
    sys.stdout.flush()
    sink = getattr(getattr(sys.stdout, "buffer", None), "raw", None)
    return isinstance(sink, _Sink) and sink.fault is not None

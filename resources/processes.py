"""Waiting for processes that are not our children."""

import contextlib
import os
import select
import time
from collections.abc import Sequence

import psutil


def wait_until_ended(processes: Sequence[psutil.Process], seconds: float) -> list[psutil.Process]:
    """Wait for all of them to end and return those that did not.

    A process that ended and was not collected by its parent yet (a zombie) has ended; where the
    init process of a container collects late, or never, psutil would wait on.
    """
    if not hasattr(os, "pidfd_open"):
        return psutil.wait_procs(processes, timeout=seconds)[1]
    deadline = time.monotonic() + seconds
    return [process for process in processes if not _ends(process, deadline)]


def _ends(process: psutil.Process, deadline: float) -> bool:
    with contextlib.suppress(ProcessLookupError):
        handle = os.pidfd_open(process.pid)
        try:
            if process.is_running():  # and not another one with the same number
                poll = select.poll()
                poll.register(handle, select.POLLIN)
                return bool(poll.poll(max(0.0, deadline - time.monotonic()) * 1000))
        finally:
            os.close(handle)
    return True

"""The share of the time in which a GPU works, as its driver tells it."""

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Event, Thread
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

_PERIOD = 0.1
"""Seconds; the driver itself looks back over a sixth of a second to one second."""


@dataclass
class Busy:
    """``share`` of the watched time, between 0 and 1; None without a GPU that tells."""

    share: float | None = None


@contextmanager
def watch(device: "torch.device") -> Iterator[Busy]:
    """Read the device's utilisation until the block ends."""
    busy = Busy()
    read = _reader(device)
    if read is None:
        yield busy
        return
    samples: list[float] = []
    ended = Event()

    def sample() -> None:
        while not ended.wait(_PERIOD):
            samples.append(read())

    thread = Thread(target=sample, daemon=True)
    thread.start()
    try:
        yield busy
    finally:
        ended.set()
        thread.join()
        busy.share = sum(samples) / len(samples) if samples else None


def _reader(device: "torch.device") -> Callable[[], float] | None:
    if device.type != "cuda":
        return None
    import torch

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            import pynvml
    except ImportError:
        return None
    try:
        pynvml.nvmlInit()
        # torch counts the devices that it may see, the driver all of them.
        uuid = torch.cuda.get_device_properties(device).uuid
        handle = pynvml.nvmlDeviceGetHandleByUUID(f"GPU-{uuid}")
        pynvml.nvmlDeviceGetUtilizationRates(handle)
    except pynvml.NVMLError:
        return None
    return lambda: float(pynvml.nvmlDeviceGetUtilizationRates(handle).gpu) / 100

"""GPUs as the driver reports them, read through NVML without torch."""

import os
import warnings
from dataclasses import dataclass
from importlib.metadata import version
from types import ModuleType
from typing import Literal

from resources.gpu.dtype_probe import cpu_model


@dataclass(frozen=True)
class GpuDevice:
    """One GPU now. Utilisation in percent, memory in bytes."""

    index: int
    name: str
    utilisation: float | None
    """None when the driver does not report it."""
    memory_used: int
    memory_total: int


@dataclass(frozen=True)
class DeviceReport:
    """What the machine has.

    ``none``: no GPU, and none is wanted. ``error``: a GPU is configured or present and unreadable.
    """

    state: Literal["ok", "none", "error"]
    detail: str
    devices: tuple[GpuDevice, ...] = ()


def probe(configured: str = "auto") -> DeviceReport:
    """Read every GPU. ``configured`` is the models' device: with 'cuda' an unreadable GPU is an error."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        import pynvml

    wanted = configured.startswith("cuda")
    try:
        pynvml.nvmlInit()
    except (pynvml.NVMLError_LibraryNotFound, pynvml.NVMLError_DriverNotLoaded) as error:
        return DeviceReport(
            "error" if wanted else "none", f"no NVIDIA driver on this machine ({error})"
        )
    except pynvml.NVMLError as error:
        return DeviceReport("error", f"the NVIDIA driver cannot be read ({error})")
    try:
        devices = tuple(_read(pynvml, index) for index in range(pynvml.nvmlDeviceGetCount()))
    except pynvml.NVMLError as error:
        return DeviceReport("error", f"a GPU cannot be read ({error})")
    finally:
        pynvml.nvmlShutdown()
    number = int(configured.partition(":")[2] or 0)
    if wanted and number >= len(devices):
        return DeviceReport(
            "error", f"{configured} is configured, the driver shows {len(devices)} GPUs", devices
        )
    if not devices:
        return DeviceReport("none", "the NVIDIA driver shows no GPU")
    return DeviceReport("ok", f"{len(devices)} GPU(s)", devices)


def device_name(configured: str) -> str:
    """The hardware that a model configured so runs on: what speeds measured on it are filed under."""
    without_gpu = configured == "cpu" or version("torch").endswith("+cpu")
    devices = () if without_gpu else probe(configured).devices
    number = _number_of_the_driver(int(configured.partition(":")[2] or 0))
    return devices[number].name if number is not None and number < len(devices) else cpu_model()


def _number_of_the_driver(number: int) -> int | None:
    """Of the GPU that torch counts as ``number``, where CUDA_VISIBLE_DEVICES chooses among them."""
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    if chosen is None:
        return number
    names = [name.strip() for name in chosen.split(",")]
    known = number < len(names) and names[number].isdigit()
    return int(names[number]) if known else None


def _read(nvml: ModuleType, index: int) -> GpuDevice:
    handle = nvml.nvmlDeviceGetHandleByIndex(index)
    memory = nvml.nvmlDeviceGetMemoryInfo(handle)
    try:
        utilisation = float(nvml.nvmlDeviceGetUtilizationRates(handle).gpu)
    except nvml.NVMLError_NotSupported:
        utilisation = None
    name = nvml.nvmlDeviceGetName(handle)
    return GpuDevice(
        index,
        name.decode() if isinstance(name, bytes) else name,
        utilisation,
        int(memory.used),
        int(memory.total),
    )

"""Machine types and the accelerators that they take: what Vertex AI refuses is known before."""

from collections.abc import Mapping, Sequence

from forge_assets.cloud_config import JobSpec

# https://docs.cloud.google.com/compute/docs/gpus and /vertex-ai/docs/training/configure-compute.
# To an N1 machine accelerators are attached, in these numbers.
_ATTACHED: Mapping[str, Sequence[int]] = {
    "NVIDIA_TESLA_P4": (1, 2, 4),
    "NVIDIA_TESLA_P100": (1, 2, 4),
    "NVIDIA_TESLA_T4": (1, 2, 4),
    "NVIDIA_TESLA_V100": (1, 2, 4, 8),
}
# Of all others the machine brings its own: type -> accelerator and how many.
_BUILT_IN: Mapping[str, tuple[str, int]] = {
    **{f"g2-standard-{cpus}": ("NVIDIA_L4", 1) for cpus in (4, 8, 12, 16, 32)},
    "g2-standard-24": ("NVIDIA_L4", 2),
    "g2-standard-48": ("NVIDIA_L4", 4),
    "g2-standard-96": ("NVIDIA_L4", 8),
    **{f"a2-highgpu-{count}g": ("NVIDIA_TESLA_A100", count) for count in (1, 2, 4, 8)},
    "a2-megagpu-16g": ("NVIDIA_TESLA_A100", 16),
    **{f"a2-ultragpu-{count}g": ("NVIDIA_A100_80GB", count) for count in (1, 2, 4, 8)},
    **{f"a3-highgpu-{count}g": ("NVIDIA_H100_80GB", count) for count in (1, 2, 4, 8)},
    "a3-megagpu-8g": ("NVIDIA_H100_MEGA_80GB", 8),
    "a3-ultragpu-8g": ("NVIDIA_H200_141GB", 8),
    "a4-highgpu-8g": ("NVIDIA_B200", 8),
}
_FAMILIES = ("g2-", "a2-", "a3-", "a4-")
_SPOT_ONLY = ("a3-highgpu-1g", "a3-highgpu-2g", "a3-highgpu-4g")

FLEX_START = frozenset(
    {
        "NVIDIA_L4",
        "NVIDIA_TESLA_A100",
        "NVIDIA_A100_80GB",
        "NVIDIA_H100_80GB",
        "NVIDIA_H100_MEGA_80GB",
        "NVIDIA_H200_141GB",
        "NVIDIA_B200",
    }
)
"""https://docs.cloud.google.com/vertex-ai/docs/training/schedule-jobs-dws."""


def misfit(job: JobSpec) -> tuple[str, str] | None:
    """Why the machine and the accelerator do not go together, and the lines of forge.yaml that do.

    None when they do, or when one of them is not known here.
    """
    machine, accelerator, count = job.machine, job.accelerator, job.accelerators
    if machine in _BUILT_IN:
        right, number = _BUILT_IN[machine]
        if (accelerator, count) != (right, number):
            asked = f"{count} {accelerator}" if accelerator else "none"
            said = f"{machine} has {number} {right}, the job asks for {asked}"
            return said, _either(right, number, accelerator, count)
        return None
    if accelerator is None:
        return None
    if accelerator in _ATTACHED:
        if not machine.startswith("n1-"):
            return (
                f"{accelerator} goes with n1 machines, not with {machine}",
                "machine: n1-standard-8",
            )
        if count not in _ATTACHED[accelerator]:
            fits = ", ".join(map(str, _ATTACHED[accelerator]))
            return (
                f"{machine} takes {fits} of {accelerator}, not {count}",
                f"accelerators: {max(n for n in _ATTACHED[accelerator] if n <= count)}",
            )
        return None
    known = [type_ for type_, (built_in, _) in _BUILT_IN.items() if built_in == accelerator]
    if known and not machine.startswith(_family(known[0])):
        said = f"{accelerator} goes with {_family(known[0])}… machines, not with {machine}"
        return said, f"machine: {_machine(accelerator, count) or known[0]}"
    if known:
        return (
            f"there is no machine type {machine}",
            f"machine: {_machine(accelerator, count) or known[0]}",
        )
    return None


def doubt(job: JobSpec) -> str:
    """What Vertex AI may refuse; "" for nothing."""
    if job.machine in _SPOT_ONLY and job.scheduling == "standard":
        return f"{job.machine} comes with spot and flex-start only, as Google says"
    known = job.accelerator in _ATTACHED or job.machine in _BUILT_IN
    if job.accelerator and not known:
        return f"not known here: whether {job.machine} takes {job.accelerator}"
    if job.machine.startswith(_FAMILIES) and not known:
        return f"not known here: machine type {job.machine}"
    return ""


def _either(right: str, number: int, accelerator: str | None, count: int) -> str:
    here = f"accelerator: {right} with accelerators: {number}"
    other = _machine(accelerator, count)
    if other is None and accelerator in _ATTACHED:
        other = "n1-standard-8"
    return f"{here}, or machine: {other}" if other else here


def _machine(accelerator: str | None, count: int) -> str | None:
    """The smallest machine type with so many."""
    return next((name for name, has in _BUILT_IN.items() if has == (accelerator, count)), None)


def _family(machine: str) -> str:
    return machine.partition("-")[0] + "-"

"""Machine types and their accelerators: what does not go together, and the line that does."""

from typing import Any

import pytest

from forge_assets.cloud_config import JobSpec
from forge_assets.launches.machine_types import FLEX_START, doubt, misfit


def job(**written: Any) -> JobSpec:
    return JobSpec.model_validate({"image": "train:v1", **written})


@pytest.mark.parametrize(
    ("written", "said", "fix"),
    [
        (
            {"machine": "n1-standard-8", "accelerator": "NVIDIA_L4"},
            "NVIDIA_L4 goes with g2-",
            "machine: g2-standard-4",
        ),
        (
            {"machine": "g2-standard-4", "accelerator": "NVIDIA_TESLA_T4"},
            "g2-standard-4 has 1 NVIDIA_L4",
            "accelerator: NVIDIA_L4 with accelerators: 1, or machine: n1-standard-8",
        ),
        (
            {"machine": "a2-highgpu-1g", "accelerator": "NVIDIA_TESLA_A100", "accelerators": 2},
            "a2-highgpu-1g has 1 NVIDIA_TESLA_A100, the job asks for 2",
            "or machine: a2-highgpu-2g",
        ),
        (
            {"machine": "a3-ultragpu-8g", "accelerator": "NVIDIA_H100_80GB", "accelerators": 8},
            "a3-ultragpu-8g has 8 NVIDIA_H200_141GB",
            "or machine: a3-highgpu-8g",
        ),
        ({"machine": "a2-highgpu-1g"}, "asks for none", "accelerator: NVIDIA_TESLA_A100"),
        (
            {"machine": "a2-highgpu-3g", "accelerator": "NVIDIA_TESLA_A100"},
            "no machine type a2-highgpu-3g",
            "machine: a2-highgpu-1g",
        ),
        (
            {"machine": "n1-standard-8", "accelerator": "NVIDIA_TESLA_T4", "accelerators": 3},
            "takes 1, 2, 4 of NVIDIA_TESLA_T4, not 3",
            "accelerators: 2",
        ),
    ],
)
def test_a_misfit_comes_with_the_line_that_fits(
    written: dict[str, Any], said: str, fix: str
) -> None:
    found = misfit(job(**written))
    assert found is not None
    assert said in found[0]
    assert fix in found[1]


@pytest.mark.parametrize(
    "written",
    [
        {},
        {"machine": "n1-standard-8", "accelerator": "NVIDIA_TESLA_V100", "accelerators": 8},
        {"machine": "g2-standard-96", "accelerator": "NVIDIA_L4", "accelerators": 8},
        {"machine": "a2-ultragpu-4g", "accelerator": "NVIDIA_A100_80GB", "accelerators": 4},
        {"machine": "a3-ultragpu-8g", "accelerator": "NVIDIA_H200_141GB", "accelerators": 8},
    ],
)
def test_what_fits_is_beyond_doubt(written: dict[str, Any]) -> None:
    assert misfit(job(**written)) is None
    assert doubt(job(**written)) == ""


@pytest.mark.parametrize(
    "written",
    [
        {"machine": "a3-highgpu-1g", "accelerator": "NVIDIA_H100_80GB"},
        {"machine": "cloud-tpu", "accelerator": "TPU_V3", "accelerators": 8},
        {"machine": "g2-standard-7"},
    ],
)
def test_what_is_not_known_is_a_doubt(written: dict[str, Any]) -> None:
    assert misfit(job(**written)) is None
    assert doubt(job(**written))
    spot = {**written, "scheduling": "spot"}
    assert bool(doubt(job(**spot))) == ("highgpu" not in written["machine"])


def test_the_accelerators_are_those_of_the_api() -> None:
    from google.cloud.aiplatform_v1.types import AcceleratorType

    from forge_assets.launches import machine_types, region_advice

    named = {each.name for each in AcceleratorType}
    built_in = {accelerator for accelerator, _ in machine_types._BUILT_IN.values()}
    assert {*built_in, *machine_types._ATTACHED, *FLEX_START, *region_advice._REGIONS} <= named

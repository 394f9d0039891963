import shutil

import pytest
import torch

from resources.gpu.devices import probe
from resources.gpu.dtype_probe import choose_device, choose_dtype

HAS_GPU = shutil.which("nvidia-smi") is not None


@pytest.mark.skipif(HAS_GPU, reason="this machine has a GPU")
def test_no_gpu_is_none_unless_one_is_configured() -> None:
    assert probe().state == "none"
    assert probe("cpu").state == "none"
    wanted = probe("cuda:0")
    assert wanted.state == "error"
    assert "NVIDIA driver" in wanted.detail


@pytest.mark.skipif(not HAS_GPU, reason="no GPU on this machine")
def test_a_gpu_is_reported_with_its_memory() -> None:
    report = probe("cuda")
    assert report.state == "ok"
    assert 0 < report.devices[0].memory_used < report.devices[0].memory_total
    assert probe(f"cuda:{len(report.devices)}").state == "error"


def test_auto_dtype_is_measured_and_says_why() -> None:
    choice = choose_dtype("auto", torch.device("cpu"))
    assert choice.name in ("float32", "bfloat16")
    assert "times as fast" in choice.reason
    assert choose_dtype("auto", torch.device("cpu")) is choice


def test_a_configured_dtype_is_kept() -> None:
    assert choose_dtype("float16", torch.device("cpu")).name == "float16"


def test_auto_device_is_one_that_torch_has() -> None:
    assert choose_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")
    assert choose_device("cpu").type == "cpu"

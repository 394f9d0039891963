"""The fused kernels compute what transformers' modules compute; without a GPU in Triton's interpreter."""

import os
import subprocess
import sys

import pytest

COMPARE = """
import torch
from transformers.models.llama.modeling_llama import LlamaRMSNorm, apply_rotary_pos_emb
from resources.gpu.engines import fused_kernels

device = "cuda" if torch.cuda.is_available() else "cpu"
torch.manual_seed(0)
torch.set_default_device(device)

x = torch.randn(1, 7, 96)
norm = LlamaRMSNorm(96, 1e-5)
norm.weight.data = torch.randn(96)
torch.testing.assert_close(fused_kernels.rms_norm(norm.weight, 1e-5, x), norm(x))

gate, up = torch.randn(1, 7, 1100), torch.randn(1, 7, 1100)
expected = torch.nn.functional.silu(gate) * up
torch.testing.assert_close(fused_kernels.silu_times(gate, up), expected)

query, key = (torch.randn(1, 7, heads, 48).transpose(1, 2) for heads in (6, 2))
cos, sin = (torch.randn(1, 7, 24).repeat(1, 1, 2) for _ in range(2))
expected = apply_rotary_pos_emb(query, key, cos, sin)
torch.testing.assert_close(fused_kernels.rotate(query, key, cos, sin), expected)
print("equal")
"""


def test_kernels_equal_the_modules_they_replace() -> None:
    pytest.importorskip("triton", reason="no Triton on this machine")
    environment = {**os.environ, "TRITON_INTERPRET": "1"}
    done = subprocess.run(
        [sys.executable, "-c", COMPARE], env=environment, capture_output=True, text=True
    )
    assert done.stdout.strip() == "equal", done.stderr

"""Kernels are told apart by their names."""

import pytest

from forge_assets.bench.profile import by_kind, kind_of


@pytest.mark.parametrize(
    ("kernel", "kind"),
    [
        ("void flash::flash_fwd_splitkv_kernel<Flash_fwd_kernel_traits>", "attention"),
        ("nvjet_tst_128x256_64x4_2x1_v_bz_coopA_TNN", "matrix products"),
        ("_rms_norm_kernel", "norm, rotary, activation"),
        ("void at::native::indexFuncLargeIndex<c10::BFloat16>", "keys and values written"),
        ("void at::native::reduce_kernel<512, 1, MaxOps>", "choice of tokens"),
        ("Memcpy DtoH (Device -> Pinned)", "copies"),
        ("something else", "other"),
    ],
)
def test_kind(kernel: str, kind: str) -> None:
    assert kind_of(kernel) == kind


def test_sums_are_the_largest_first() -> None:
    found = by_kind([("a_norm", 1.0), ("flash_x", 2.0), ("b_norm", 2.0)])
    assert list(found.items()) == [("norm, rotary, activation", 3.0), ("attention", 2.0)]

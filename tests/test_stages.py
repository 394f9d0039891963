"""Partition keys and the subject ordinals that they stand for."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forge_assets.config import BatchSpec, StageSpec
from forge_assets.stages import Stage, build_stages, previous_stage, stage_named
from resources.errors import ConfigurationError

SPECS = [
    StageSpec(key="canary-10", subjects=10),
    StageSpec(key="ramp-50", subjects=50),
    StageSpec(key="full-500", subjects=500),
]
STAGES = build_stages(SPECS, BatchSpec(size=500, count=200))


def test_the_ranges_of_the_design() -> None:
    assert STAGES[:4] == (
        Stage("canary-10", 0, 10),
        Stage("ramp-50", 10, 60),
        Stage("full-500", 60, 560),
        Stage("batch-0001", 560, 1060),
    )
    assert STAGES[-1].key == "batch-0200"
    assert len(STAGES) == 203
    assert [stage.batch for stage in STAGES[2:4]] == [False, True]


@settings(max_examples=50, deadline=None, derandomize=True)
@given(st.lists(st.integers(1, 900), max_size=5), st.integers(1, 900), st.integers(0, 30))
def test_ranges_are_disjoint_and_without_gaps(sizes: list[int], size: int, count: int) -> None:
    specs = [StageSpec(key=f"s{i}", subjects=n) for i, n in enumerate(sizes)]
    stages = build_stages(specs, BatchSpec(size=size, count=count))
    assert [stage.first for stage in stages] == [0, *(stage.end for stage in stages)][:-1] * bool(
        stages
    )
    assert [stage.size for stage in stages] == sizes + [size] * count
    assert len({stage.key for stage in stages}) == len(stages)


def test_stage_named() -> None:
    assert stage_named(STAGES, "ramp-50") is STAGES[1]
    with pytest.raises(ConfigurationError) as caught:
        stage_named(STAGES, "rampe-50")
    assert str(caught.value) == (
        "unknown stage 'rampe-50', did you mean 'ramp-50'?; "
        "known stages: canary-10, ramp-50, full-500, batch-0001 to batch-0200"
    )


def test_previous_stage() -> None:
    assert previous_stage(STAGES, STAGES[0]) is None
    assert previous_stage(STAGES, STAGES[1]) is STAGES[0]
    assert previous_stage(STAGES, STAGES[3]) is STAGES[2]

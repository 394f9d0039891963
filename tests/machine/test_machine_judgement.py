from datetime import UTC, datetime, timedelta
from typing import Any

from resources.machine_judgement import Judgement, judge, peaks
from resources.machine_limits import Limits
from resources.store_types import ResourceSample

GB = 10**9
START = datetime(2025, 1, 1, tzinfo=UTC)


def samples(
    used: list[float],
    *,
    run_id: str = "run-1",
    connections: list[int] | None = None,
    utilisation: list[float | None] | None = None,
) -> list[ResourceSample]:
    """One a second; ``used`` in GB of 16."""
    rows = []
    for n, gigabytes in enumerate(used):
        total = connections[n] if connections else 5
        gpus: list[dict[str, Any]] = []
        if utilisation:
            gpus.append(gpu(0, utilisation[n], memory_used=n * GB))
        rows.append(
            ResourceSample(
                run_id=run_id,
                memory_total=16 * GB,
                memory_available=int((16 - gigabytes) * GB),
                connections_total=total,
                connections_active=1,
                connections_idle=total - 1,
                connections_max=20,
                gpus=tuple(gpus),
                at=START + timedelta(seconds=n),
            )
        )
    return rows


def gpu(index: int, utilisation: float | None, memory_used: int = 0) -> dict[str, Any]:
    return {
        "index": index,
        "name": "gpu",
        "utilisation": utilisation,
        "memory_used": memory_used,
        "memory_total": 80 * GB,
    }


def named(found: list[Judgement], name: str) -> Judgement:
    (one,) = [judgement for judgement in found if judgement.name == name]
    return one


def test_nothing_sampled_is_judged_by_nobody() -> None:
    assert peaks([]) is None
    assert {judgement.status for judgement in judge([], Limits())} == {"not_applicable"}


def test_gpu_use_within_and_outside_the_target() -> None:
    for utilisation, status in ((60.0, "ok"), (90.0, "ok"), (59.0, "warn"), (91.0, "warn")):
        rows = samples([4, 4], utilisation=[utilisation - 1, utilisation + 1])
        found = named(judge(rows, Limits()), "gpu 0 utilisation")
        assert found.status == status
        assert found.detail == f"mean {utilisation:.0f} % over 2 samples, target 60-90 %"
        assert found.figures["mean_percent"] == utilisation


def test_a_gpu_that_never_worked_is_no_gpu_run() -> None:
    for utilisation in ([0.0, 0.0], [None, None]):
        rows = samples([4, 4], utilisation=list(utilisation))
        assert named(judge(rows, Limits()), "gpu utilisation").status == "not_applicable"


def test_peak_connections() -> None:
    rows = samples([4] * 3, connections=[5, 16, 7])
    found = named(judge(rows, Limits()), "db connections")
    assert (found.status, found.figures["peak"], found.figures["max"]) == ("ok", 16, 20)
    assert found.detail == "peak 16 of 20 (80 %) over 3 samples, limit 80 %"
    rows = samples([4] * 3, connections=[5, 17, 7])
    assert named(judge(rows, Limits()), "db connections").status == "warn"


def test_memory_growth_ignores_the_first_quarter() -> None:
    loading = [1, 3, 4, 4, 4, 4, 4, 4]
    found = named(judge(samples([*map(float, loading)]), Limits()), "memory growth")
    assert found.status == "ok"
    assert found.figures["growth_bytes"] == 0
    leaking = [1, 3, 4, 4, 4.5, 4.5, 5, 5.2]
    found = named(judge(samples(leaking), Limits()), "memory growth")
    assert found.status == "warn"
    assert found.detail.startswith("+1.10 GB in use from the second to the last quarter")
    assert "(8 samples)" in found.detail


def test_memory_growth_is_of_one_run_at_a_time() -> None:
    """Two steady runs of different size are no leak; of several runs the worst is told."""
    steady = samples([2.0] * 8) + samples([6.0] * 8, run_id="run-2")
    assert named(judge(steady, Limits()), "memory growth").status == "ok"
    leaking = samples([2.0] * 4 + [8.0] * 4, run_id="run-3")
    assert named(judge(steady + leaking, Limits()), "memory growth").status == "warn"
    few = samples([1.0] * 3 + [9.0] * 4)
    assert named(judge(few, Limits()), "memory growth").status == "not_applicable"


def test_peaks() -> None:
    rows = samples([4, 9, 5], connections=[5, 8, 6], utilisation=[0, 0, 0])
    found = peaks(rows)
    assert found is not None
    assert (found.samples, found.connections, found.connections_max) == (3, 8, 20)
    assert (found.memory_available_least, found.memory_total) == (7 * GB, 16 * GB)
    assert found.gpu_memory == (2 * GB, 80 * GB)

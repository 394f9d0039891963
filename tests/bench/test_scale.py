"""The benchmark of a large store, on a small one."""

import pytest

from forge_assets.bench.scale import measure


def test_it_works_off_what_waits_in_a_database_of_its_own(forge_database: str) -> None:
    said: list[str] = []
    result = measure(8_000, 4_000, said.append, workers=2)
    assert result["database"]["interactions"] == 8_000
    assert result["database"]["stages"] == 2_000
    # One waiting stage is left to the claims; of the other two subjects of five take the branch.
    done = result["claim_and_commit"]
    assert done["results"] == 500 * 3 + 200
    assert done["all_per_second"] == [pytest.approx(1700 / done["seconds"])]
    assert {"status of all stages", "the gate's decision", "a claim of 32"} <= {
        reading["name"] for reading in result["readings_ms"]
    }

"""A stage from the first command to its checks, and the gate in front of the next."""

import json

import pyarrow.parquet as pq
import pytest

from tests.pipeline.project import OTHER, SMALL, Ended, Project, occurrences

CHECKS = ["rejection_rate", "error_rate", "throughput", "nothing_lost", "success_rate"]
REFUSED = "ramp-50 refused: canary-10 has not run; run canary-10 first"


@pytest.fixture(scope="module")
def canary(module_project: Project) -> Ended:
    return module_project.materialize("canary-10")


@pytest.fixture(scope="module")
def done(canary: Ended, module_project: Project) -> Project:
    """A project whose first stage has passed."""
    assert canary.code == 0, canary.text
    return module_project


def test_every_interaction_is_stored_with_what_made_it(done: Project) -> None:
    rows = done.query("SELECT * FROM forge.interactions")
    assert len(rows) == 6
    assert {row["status"] for row in rows} == {"completed"}
    assert all(row["prompt"] and row["output"] is not None for row in rows)
    keys = {"engine", "dtype", "device", "attention", "model_sha256", "batch_id", "batch_size"}
    assert all(keys <= set(row["provenance"]) for row in rows)
    assert {row["provenance"]["dtype"] for row in rows} == {"float32"}
    drafts = {row["subject_id"]: row["output"] for row in rows if row["step"] == "draft"}
    for row in rows:
        if row["step"] == "polish":
            assert row["prompt"] == f"Improve: {drafts[row['subject_id']]}"


def test_results_are_written_as_parquet_and_report(done: Project) -> None:
    folder = done.output / "review/canary-10"
    table = pq.read_table(folder / "results.parquet").to_pylist()
    assert [row["key"] for row in table] == ["s0", "s1", "s2"]
    assert [row["ordinal"] for row in table] == [0, 1, 2]
    stored = done.query(
        "SELECT s.key, i.output FROM forge.interactions i JOIN forge.subjects s"
        " ON s.id = i.subject_id WHERE i.step = 'polish'"
    )
    assert {row["key"]: row["polish.output"] for row in table} == {
        row["key"]: row["output"] for row in stored
    }
    assert {row["draft.status"] for row in table} == {"completed"}
    report = json.loads((folder / "report.json").read_text())
    assert report["verdict"] == "passed"
    assert (folder / "report.md").read_text().startswith("# review, canary-10: passed")


def test_checks_are_in_dagsters_log_under_their_partition(done: Project) -> None:
    found = {
        (evaluation["asset_key"]["path"][1], evaluation["check_name"]): evaluation["success"]
        for evaluation in done.evaluations("canary-10")
    }
    expected = [("results", name) for name in CHECKS]
    expected += [(step, name) for step in ("draft", "polish") for name in CHECKS[:2]]
    assert found == dict.fromkeys(expected, True)
    assert done.evaluations("ramp-50") == []


def test_the_same_command_again_generates_nothing(done: Project) -> None:
    facts = "SELECT id, claims, attempts, run_id, finished_at FROM forge.interactions ORDER BY id"
    before, events = done.query(facts), done.scalar("SELECT count(*) FROM forge.interaction_events")
    loads = done.scalar("SELECT count(*) FROM forge.model_loads")
    evaluations = len(done.evaluations("canary-10"))
    again = done.materialize("canary-10")
    assert again.code == 0, again.text
    assert done.query(facts) == before
    assert done.scalar("SELECT count(*) FROM forge.interaction_events") == events
    assert done.scalar("SELECT count(*) FROM forge.model_loads") == loads
    assert len(done.evaluations("canary-10")) > evaluations


def test_status_has_the_promised_shape(done: Project) -> None:
    row = done.stage("canary-10")
    counts = {"pending": 0, "running": 0, "completed": 6, "rejected": 0, "failed": 0, "skipped": 0}
    assert row["interactions"] == counts
    numbers = ["per_minute", "subjects_per_minute", "seconds_per_interaction"]
    numbers += ["seconds_per_subject"]
    assert all(row[name] > 0 for name in numbers)
    assert (row["subjects"], row["model_loads"], row["verdict"]) == (3, 2, "passed")
    assert (row["rejection_rate"], row["error_rate"], row["success_rate"]) == (0, 0, 1)
    assert done.stage("ramp-50")["verdict"] == "incomplete"


def test_what_each_model_took_is_kept_for_the_next_prediction(done: Project) -> None:
    report = json.loads((done.output / "review/canary-10/report.json").read_text())
    stays = {stay["model"]: stay for stay in report["residencies"]}
    assert {model: stay["steps"] for model, stay in stays.items()} == {
        SMALL: {"draft": [3, *stays[SMALL]["steps"]["draft"][1:]]},
        OTHER: {"polish": [3, *stays[OTHER]["steps"]["polish"][1:]]},
    }
    for stay in stays.values():
        assert stay["engine"] == "transformers"
        assert stay["start_seconds"] > 0
        assert stay["busy_seconds"] > 0
        assert stay["output_tokens"] > 0
        assert stay["memory_predicted"] > 0
    assert stays[SMALL]["predicted_seconds"] is None, "nothing was measured before"
    assert stays[OTHER]["predicted_seconds"] > 0, "the same weights, measured a moment before"
    ahead = done.forge("plan", "--stage", "ramp-50", "--json").data
    assert ahead["seconds"] == sum(group["seconds"] for group in ahead["groups"])
    assert all(group["seconds"] > 0 for group in ahead["groups"])
    assert all(group["working_bytes"] > 0 for group in ahead["groups"])


def test_dagster_shows_what_the_model_cache_did(done: Project) -> None:
    for step in ("draft", "polish"):
        metadata = done.materialization(f"review/{step}", "canary-10")
        cache = metadata["model cache"]
        assert (cache["loads"], cache["evictions"]) == (2, 0)
        assert cache["seconds"] > 0
        assert cache["bytes"] > 0
        assert cache["tiers"] == {"disk": 2}
        assert metadata["engine"] == "transformers"


@pytest.mark.parametrize("select", ['+key:"review/results"', 'key:"review/draft"'])
def test_the_second_stage_is_refused_before_the_first(project: Project, select: str) -> None:
    ended = project.materialize("ramp-50", select)
    assert ended.code == 1
    assert occurrences(REFUSED, ended.text) == 1, ended.text
    assert project.scalar("SELECT count(*) FROM forge.interactions") == 0
    assert project.scalar("SELECT count(*) FROM forge.interaction_events") == 0


def test_forge_refuses_it_with_one_line(project: Project) -> None:
    ended = project.forge("run", "--stage", "ramp-50")
    assert ended.code == 1
    assert [line for line in ended.err.splitlines() if line] == [
        line for line in ended.err.splitlines() if line.startswith(f"forge: {REFUSED}")
    ]
    assert ended.out == ""
    assert project.scalar("SELECT count(*) FROM forge.interactions") == 0

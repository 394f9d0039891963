"""A stage whose contract rejects more than it may: seen everywhere, and the next stage stays shut."""

from typing import Any

import pyarrow.parquet as pq
import pytest

from tests.pipeline.project import Ended, Project, occurrences, step


@pytest.fixture(scope="module")
def strict(module_project: Project) -> Project:
    """Of two steps one rejects everything; another only follows what was accepted."""
    module_project.stages = {"canary-10": 4, "ramp-50": 3}
    module_project.configure()
    module_project.write_workflow(
        [
            step("draft", "Say one word about this: {text}"),
            step("strict", "Say more: {draft.output}", needs=["draft"], output={"max_chars": 1}),
            step("after", "Say: {strict.output}", needs=["strict"]),
            step("beside", "Say again: {draft.output}", needs=["draft"]),
        ]
    )
    return module_project


@pytest.fixture(scope="module")
def failed(strict: Project) -> Ended:
    return strict.materialize("canary-10")


def test_the_command_fails_and_says_why(failed: Ended, strict: Project) -> None:
    assert failed.code == 1, failed.text
    assert strict.counts() == {"completed": 8, "rejected": 4, "skipped": 4}


def test_the_check_says_rate_counts_and_three_examples(failed: Ended, strict: Project) -> None:
    found = {
        evaluation["check_name"]: evaluation
        for evaluation in strict.evaluations("canary-10")
        if evaluation["asset_key"]["path"] == ["review", "results"]
    }
    assert {name: one["success"] for name, one in found.items()} == {
        "rejection_rate": False,
        "error_rate": True,
        "throughput": True,
        "nothing_lost": True,
        "success_rate": False,
    }
    assert found["success_rate"]["severity"] == {"__enum__": "AssetCheckSeverity.WARN"}
    check = found["rejection_rate"]
    assert check["severity"] == {"__enum__": "AssetCheckSeverity.ERROR"}
    assert check["description"] == "33.3 % (4 of 12), limit 15 %"
    metadata = {name: entry_value(entry) for name, entry in check["metadata"].items()}
    assert metadata["rate"] == pytest.approx(4 / 12, abs=1e-6)
    assert (metadata["rejected"], metadata["attempted"]) == (4, 12)
    assert metadata["limit"] == pytest.approx(0.15)
    assert metadata["worst examples"].count("step strict") == 3


def test_results_are_written_for_a_failed_stage_too(failed: Ended, strict: Project) -> None:
    table = pq.read_table(strict.output / "review/canary-10/results.parquet").to_pylist()
    assert {row["strict.status"] for row in table} == {"rejected"}
    assert {row["after.status"] for row in table} == {"skipped"}
    assert all("at most 1" in row["strict.reason"] for row in table)


def test_report_and_status_agree(failed: Ended, strict: Project) -> None:
    row = strict.stage("canary-10")
    report = strict.forge("report", "--stage", "canary-10", "--json")
    assert report.code == 0, report.text
    assert row["verdict"] == report.data["verdict"] == "failed"
    names = ("completed", "rejected", "failed", "skipped", "pending", "running")
    for name in names:
        assert row["interactions"][name] == report.data["counts"][name]
    for name in ("rejection_rate", "error_rate", "success_rate", "per_minute"):
        assert row[name] == pytest.approx(report.data["rates"][name])
    assert row["model_loads"] == report.data["counts"]["model_loads"] == 1
    markdown = strict.forge("report", "--stage", "canary-10")
    assert markdown.out.startswith("# review, canary-10: failed")
    assert "33.3 % (4 of 12), limit 15 %" in markdown.out


def test_the_next_stage_is_refused(failed: Ended, strict: Project) -> None:
    ended = strict.materialize("ramp-50")
    assert ended.code == 1
    sentence = "ramp-50 refused: canary-10 failed: rejection_rate 33.3 % (4 of 12), limit 15 %"
    assert occurrences(sentence, ended.text) == 1, ended.text
    assert strict.counts() == {"completed": 8, "rejected": 4, "skipped": 4}


def test_retry_renews_the_rejected_and_their_descendants(failed: Ended, strict: Project) -> None:
    ids = "SELECT step, id FROM forge.interactions WHERE superseded_at IS NULL ORDER BY id"
    before = {(row["step"], row["id"]) for row in strict.query(ids)}
    evaluations = len(strict.evaluations("canary-10"))
    ended = strict.forge("retry", "--stage", "canary-10", "--status", "rejected")
    assert ended.code == 1, ended.text
    after = {(row["step"], row["id"]) for row in strict.query(ids)}
    assert {step for step, _ in before & after} == {"draft", "beside"}
    assert {step for step, _ in after - before} == {"strict", "after"}
    assert strict.counts() == {"completed": 8, "rejected": 4, "skipped": 4}
    retired = strict.query(
        "SELECT step, status, count(*) AS number FROM forge.interactions"
        " WHERE superseded_at IS NOT NULL GROUP BY step, status ORDER BY step"
    )
    assert retired == [
        {"step": "after", "status": "skipped", "number": 4},
        {"step": "strict", "status": "rejected", "number": 4},
    ]
    new = strict.evaluations("canary-10")[evaluations:]
    verdicts = {
        one["check_name"]: one["success"] for one in new if one["asset_key"]["path"][1] == "results"
    }
    assert verdicts["rejection_rate"] is False
    assert verdicts["nothing_lost"] is True


def entry_value(entry: dict[str, Any]) -> Any:
    return next(entry[name] for name in ("value", "md_str", "text") if name in entry)

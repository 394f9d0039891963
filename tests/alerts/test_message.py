"""What stands in an alert."""

from uuid import UUID

from forge_assets.alerts.message import EndedRun, FailedCheck, launch_message, run_message
from resources.launch_store import Launch

REJECTED = FailedCheck("review/results", "rejection_rate", "22.0 % (11 of 50), limit 15 %")
SLOW = FailedCheck("review/results", "throughput", "61.0 interactions a minute, at least 80")
WARNS = FailedCheck("review/results", "success_rate", "78.0 % (39 of 50)", warns=True)
OF_STEP = FailedCheck("review/draft", "rejection_rate", "40.0 % (4 of 10), limit 15 %", warns=True)


def ended(*checks: FailedCheck, failed: bool = True, reason: str = "") -> EndedRun:
    return EndedRun("0f3a", failed, "assets", "review", "ramp-50", reason=reason, checks=checks)


def test_each_check_stands_with_its_value_and_its_limit() -> None:
    made = run_message(ended(REJECTED, SLOW, WARNS, OF_STEP), "http://host:3000")
    assert made.key == "run 0f3a"
    assert made.title == "review ramp-50: rejection_rate, throughput failed"
    assert made.body.splitlines() == [
        "- rejection_rate: 22.0 % (11 of 50), limit 15 %",
        "- throughput: 61.0 interactions a minute, at least 80",
        "- success_rate (warns): 78.0 % (39 of 50)",
        "- draft rejection_rate (warns): 40.0 % (4 of 10), limit 15 %",
        "",
        "workflow: review",
        "stage: ramp-50",
        "run: 0f3a",
        "http://host:3000/runs/0f3a",
        "look: forge report --stage ramp-50",
    ]


def test_without_a_base_url_there_is_no_link() -> None:
    assert "http" not in run_message(ended(REJECTED)).body


def test_a_run_whose_checks_only_warn_says_so() -> None:
    assert run_message(ended(WARNS, failed=False)).title == "review ramp-50: success_rate warns"
    two = ended(WARNS, OF_STEP, failed=False)
    assert two.only_warns
    assert run_message(two).title == "review ramp-50: success_rate, draft rejection_rate warn"
    assert not ended(WARNS, REJECTED, failed=False).only_warns
    assert not ended(WARNS).only_warns


def test_of_many_checks_a_title_gives_the_number_and_the_text_forty() -> None:
    checks = [FailedCheck(f"review/s{n}", "error_rate", "bad", warns=True) for n in range(50)]
    made = run_message(ended(*checks, failed=False))
    assert made.title == "review ramp-50: 50 checks warn"
    assert made.body.count("\n- ") == 39
    assert "and 10 more" in made.body


def test_a_run_that_failed_otherwise_says_why_first() -> None:
    made = run_message(ended(WARNS, reason="the machine\nis full " + "x" * 3000))
    assert made.title == "review ramp-50: the run failed"
    assert made.body.startswith("the machine is full xxx")
    assert len(made.body) < 1500


def test_a_run_of_no_workflow_is_called_by_what_it_made() -> None:
    made = run_message(EndedRun("0f3a", True, "monitor/jobs", reason="no credentials"))
    assert made.title == "monitor/jobs: the run failed"
    assert "workflow" not in made.body
    assert "forge report" not in made.body


def test_a_launch_says_how_it_ended_and_where_to_look() -> None:
    name = "projects/demo/locations/us-central1/customJobs/7"
    launch = Launch(
        UUID(int=7), "runner_failed", "queue", "train", "demo", "us-central1",
        job_name=name, reason="CUDA out of memory",
    )  # fmt: skip
    made = launch_message(launch, "http://host:3000")
    assert made.key == f"launch {UUID(int=7)}"
    assert made.title == "launch 00000000 of train: runner failed"
    assert made.body.startswith("CUDA out of memory\n")
    assert f"look: forge diagnose {name}" in made.body
    assert "http://host:3000/assets/launches" in made.body

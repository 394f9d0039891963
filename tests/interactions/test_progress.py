"""Progress lines: share, rate and time left of this run."""

from forge_assets.interactions.clerk import Tally
from forge_assets.interactions.progress import Progress
from resources.interaction_store import OpenWork


def test_a_line_every_ten_seconds_with_the_time_left() -> None:
    now = [0.0]
    lines: list[str] = []
    progress = Progress("ramp-50", 200, lines.append, clock=lambda: now[0])
    tally = Tally(finished=40, skipped=10)
    for second in range(31):
        now[0] = float(second)
        progress("m", tally)
    assert len(lines) == 3
    assert lines[0] == (
        "ramp-50: 50 of 200 interactions ended (25%), 240 generated a minute,"
        " 0:30 left at most, model m"
    )


def test_before_anything_ended_no_time_left_is_claimed() -> None:
    progress = Progress("ramp-50", 200, print, clock=lambda: 0.0)
    assert "left" not in progress.line("m", Tally())


def test_what_a_run_waits_for_is_said_every_ten_seconds() -> None:
    now = [0.0]
    lines: list[str] = []
    progress = Progress("ramp-50", 200, lines.append, clock=lambda: now[0])
    retries = OpenWork(waiting_retry=3, retry_in_seconds=12.4)
    others = OpenWork(running_elsewhere=5, lease_in_seconds=280.0)
    for second in range(21):
        now[0] = float(second)
        progress.waiting(retries if second < 15 else others)
    assert lines == [
        "ramp-50: waits for 3 retries, the next in 12 s",
        "ramp-50: waits for 5 interactions of other workers, whose first lease ends in 280 s",
    ]

"""A server that answers with every kind of fault: the stage ends, and so does every row, once."""

import random

import pytest

from tests.chaos.conftest import Figures, MakeProject
from tests.chaos.stage_check import check_each_ended_once, run_stage, served
from tests.chaos.stub_server import StubServer
from tests.chat_server import Reply
from tests.pipeline.project import SMALL

FAULTS = {
    "500": Reply(500, {"error": "broken"}),
    "429": Reply(429, {"error": "slow down"}, headers={"Retry-After": "1"}),
    "garbage": Reply(200, b"<html>\x00\xff not JSON"),
    "no completion": Reply(200, {"object": "list", "data": []}),
    "half a body": Reply(200, missing=50),
    "nothing": Reply(hangs=True),
}
SHARE = 0.2
"""Of the prompts meets faults."""
HOPELESS = 0.02
"""Of the prompts is never answered."""
TIMEOUT_SECONDS = 1.0


def moody(seed: int) -> tuple[StubServer, dict[str, int]]:
    """A server whose faults depend on the prompt alone, and what it has answered with."""
    given = dict.fromkeys(FAULTS, 0)

    def choose(prompt: str, times: int) -> Reply:
        dice = random.Random(f"{seed}/{prompt}")
        luck, faults = dice.random(), dice.randint(1, 2)
        if luck >= SHARE or (luck >= HOPELESS and times >= faults):
            return Reply()
        name = random.Random(f"{seed}/{prompt}/{times}").choice(list(FAULTS))
        given[name] += 1
        return FAULTS[name]

    return StubServer(choose, seconds=0.05), given


@pytest.mark.parametrize(
    "subjects",
    [pytest.param(20, id="short"), pytest.param(560, id="long", marks=pytest.mark.chaos)],
)
def test_faults_of_every_kind(
    subjects: int, database: str, make_project: MakeProject, figures: Figures
) -> None:
    server, given = moody(seed=7)
    with server:
        project = make_project(database, server, {"canary-10": subjects})
        project.configure(
            models={SMALL: served(server, timeout=TIMEOUT_SECONDS)},
            thresholds={"per_minute": 1, "error_rate": 0.5},
        )
        done = project.forge(*run_stage("canary-10"))
    counts = check_each_ended_once(project, subjects)
    classes = project.query(
        "SELECT error_class, count(*) AS number FROM forge.interactions WHERE status = 'failed'"
        " GROUP BY error_class ORDER BY error_class"
    )
    figures(
        f"{2 * subjects} rows; faults {given}; ended {counts},"
        f" classes { ({row['error_class']: row['number'] for row in classes}) }, exit {done.code}"
    )
    assert done.code == 0, done.text
    assert sum(given.values()) > 0
    assert set(counts) <= {"completed", "failed", "skipped"}
    never = {prompt for prompt in server.asked if not server.answered[prompt]}
    assert len(never) == counts.get("failed", 0), "only what never got an answer failed"
    assert all(server.answered[prompt] == 1 for prompt in server.answered)
    assert all(row["error_class"] for row in classes)

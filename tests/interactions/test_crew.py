"""Several workers on one stage, on a real store: each interaction once, and none needs another."""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import pytest
import sqlalchemy as sa

from forge_assets.interactions.attempt import QUARANTINE_LOSSES
from forge_assets.interactions.budget import Budget
from forge_assets.interactions.crew import Crew, Ended, Worker
from forge_assets.interactions.wave import WaveOutcome
from resources.gpu.engines.base import Completion, GenerationRequest
from resources.interaction import SUSPECT_LOSSES
from resources.interaction_store import EndState
from tests.interactions.test_wave import RUN, Echo, Stage, planned, step

PATIENCE_SECONDS = 30


@dataclass
class Meeting(Echo):
    """Answers only once so many callers are in it at the same time."""

    callers: int = 1
    barrier: threading.Barrier = field(init=False)

    def __post_init__(self) -> None:
        self.barrier = threading.Barrier(self.callers)

    def generate(self, requests: Sequence[GenerationRequest]) -> Iterator[Completion]:
        if self.callers > 1:
            self.barrier.wait(PATIENCE_SECONDS)
            self.callers = 1
        yield from super().generate(requests)


@dataclass
class Broken(Echo):
    asked: threading.Event = field(default_factory=threading.Event)

    def generate(self, requests: Sequence[GenerationRequest]) -> Iterator[Completion]:
        self.asked.set()
        raise RuntimeError("the engine is gone")


class After(Echo):
    """Answers once something else has happened."""

    def __init__(self, event: threading.Event) -> None:
        super().__init__()
        self.event = event

    def generate(self, requests: Sequence[GenerationRequest]) -> Iterator[Completion]:
        assert self.event.wait(PATIENCE_SECONDS)
        yield from super().generate(requests)


@dataclass
class Silent(Echo):
    """Says that it was asked, and answers when it is let go."""

    asked: threading.Event = field(default_factory=threading.Event)
    free: threading.Event = field(default_factory=threading.Event)

    def generate(self, requests: Sequence[GenerationRequest]) -> Iterator[Completion]:
        self.asked.set()
        self.free.wait(PATIENCE_SECONDS)
        yield from super().generate(requests)


@dataclass
class Team:
    """The workers of a test; ``engines`` gives each its own."""

    stage: Stage
    said: list[str] = field(default_factory=list)
    ended: dict[str, tuple[EndState, str | None]] = field(default_factory=dict)

    def run(
        self,
        shares: Sequence[frozenset[str]],
        engines: Callable[[int, str], Echo] | None = None,
        max_interactions: int | None = None,
    ) -> WaveOutcome:
        crew = Crew(self.stage.store, Budget(max_interactions), self.said.append)
        workers = []
        for number, steps in enumerate(shares, start=1):
            run_id = RUN if number == 1 else f"{RUN}/{number}"
            self.stage.store.register_run(run_id, self.stage.scope, pid=1, host="here")
            hooks = replace(
                self.stage.hooks(),
                breach=crew.stopping,
                awaited=crew.awaited,
                moved=crew.moved,
                pause=crew.pause,
                budget=crew.budget,
            )
            if engines is not None:
                hooks = replace(hooks, engine=self._engine(engines, number))
            order = self.stage.order(run_id=run_id, steps=steps)
            workers.append(Worker(order, hooks, self._note(run_id)))
        return crew.run(workers)

    def _engine(self, engines: Callable[[int, str], Echo], number: int) -> Callable[[str], Echo]:
        return lambda model: engines(number, model)

    def _note(self, run_id: str) -> Ended:
        def note(state: EndState, reason: str | None = None) -> None:
            self.ended[run_id] = (state, reason)

        return note


def claims_of(engine: sa.Engine) -> dict[int, set[str]]:
    """By interaction: the runs that claimed it, one entry a claim."""
    found: dict[int, set[str]] = {}
    with engine.connect() as connection:
        rows = connection.execute(
            sa.text(
                "SELECT interaction_id, run_id FROM forge.interaction_events WHERE kind = 'claimed'"
            )
        )
        for interaction_id, run_id in rows:
            assert run_id not in found.setdefault(interaction_id, set())
            found[interaction_id].add(run_id)
    return found


def lose(engine: sa.Engine, key: str, losses: int) -> None:
    with engine.begin() as connection:
        connection.execute(
            sa.text(
                "UPDATE forge.interactions i SET losses = :losses FROM forge.subjects s"
                " WHERE s.id = i.subject_id AND s.key = :key"
            ),
            {"losses": losses, "key": key},
        )


def one_step(engine: sa.Engine, count: int) -> Stage:
    return planned(engine, [step("draft", "small")], [f"text {n}" for n in range(count)])


def test_four_workers_do_every_interaction_once(postgres_engine: sa.Engine) -> None:
    stage = one_step(postgres_engine, 200)
    engine = Meeting(callers=4)
    outcome = Team(stage).run([frozenset({"draft"})] * 4, lambda number, model: engine)
    assert stage.statuses() == {"completed": 200}
    claims = claims_of(postgres_engine)
    assert all(len(runs) == 1 for runs in claims.values())
    assert {run for runs in claims.values() for run in runs} == {
        RUN,
        *(f"{RUN}/{n}" for n in (2, 3, 4)),
    }
    assert outcome.tally.finished == outcome.tally.claimed == 200


def test_workers_of_different_models_hand_on_to_each_other(postgres_engine: sa.Engine) -> None:
    steps = [
        step("draft", "here"),
        step("polish", "far", prompt="{draft.output}", needs=["draft"]),
        step("grade", "here", prompt="{polish.output}", needs=["polish"]),
    ]
    stage = planned(postgres_engine, steps, [f"text {n}" for n in range(20)])
    shares = [frozenset({"draft", "grade"}), frozenset({"polish"}), frozenset({"polish"})]
    Team(stage).run(shares)
    assert stage.statuses() == {"completed": 60}


def test_an_error_in_one_worker_ends_no_other(postgres_engine: sa.Engine) -> None:
    stage = one_step(postgres_engine, 200)
    team, broken = Team(stage), Broken()
    engines = {1: After(broken.asked), 2: broken, 3: After(broken.asked)}
    team.run([frozenset({"draft"})] * 3, lambda number, model: engines[number])
    assert stage.statuses() == {"completed": 200}
    assert team.ended[f"{RUN}/2"] == ("failed", "the engine is gone")
    assert team.ended[f"{RUN}/3"] == ("finished", None)
    assert any("the engine is gone; the others go on" in line for line in team.said)


def test_what_no_worker_can_do_raises_and_is_handed_back(postgres_engine: sa.Engine) -> None:
    stage = one_step(postgres_engine, 40)
    with pytest.raises(RuntimeError, match="the engine is gone"):
        Team(stage).run([frozenset({"draft"})] * 3, lambda number, model: Broken())
    assert stage.statuses() == {"pending": 40}


def test_steps_without_a_worker_are_not_waited_for(postgres_engine: sa.Engine) -> None:
    steps = [step("draft", "here"), step("polish", "far", needs=["draft"])]
    stage = planned(postgres_engine, steps, ["a", "b"])
    engines = {"here": Echo(), "far": Broken()}
    with pytest.raises(RuntimeError, match="the engine is gone"):
        Team(stage).run(
            [frozenset({"draft"}), frozenset({"polish"})], lambda number, model: engines[model]
        )
    assert stage.statuses() == {"completed": 2, "pending": 2}


def test_a_budget_is_that_of_all_workers(postgres_engine: sa.Engine) -> None:
    stage = one_step(postgres_engine, 200)
    Team(stage).run([frozenset({"draft"})] * 4, max_interactions=30)
    assert stage.statuses() == {"completed": 30, "pending": 170}


def test_an_interruption_stays_one_when_the_clerk_has_failed(postgres_engine: sa.Engine) -> None:
    """With several workers it must end them all, whatever the clerk has met meanwhile."""
    stage = one_step(postgres_engine, 40)

    class Interrupted(Echo):
        def generate(self, requests: Sequence[GenerationRequest]) -> Iterator[Completion]:
            with postgres_engine.begin() as connection:
                connection.execute(sa.text("DROP TABLE forge.interaction_events"))
            yield from super().generate(requests[:1])
            for thread in threading.enumerate():
                if thread.name == "clerk":
                    thread.join(PATIENCE_SECONDS)
            raise KeyboardInterrupt

    stage.engines["small"] = Interrupted()
    with pytest.raises(KeyboardInterrupt):
        stage.run()


def test_an_interruption_waits_for_no_answer(postgres_engine: sa.Engine) -> None:
    stage = one_step(postgres_engine, 40)
    silent = Silent()

    class Interrupted(Echo):
        def generate(self, requests: Sequence[GenerationRequest]) -> Iterator[Completion]:
            silent.asked.wait(PATIENCE_SECONDS)
            raise KeyboardInterrupt

    team = Team(stage)
    engines = {1: Interrupted(), 2: silent}
    with pytest.raises(KeyboardInterrupt):
        team.run([frozenset({"draft"})] * 2, lambda number, model: engines[number])
    assert team.ended[f"{RUN}/2"] == ("cut_short", "interrupted")
    assert stage.statuses() == {"pending": 40}
    for thread in threading.enumerate():
        if thread.name == f"{RUN}/2":
            silent.free.set()
            thread.join(PATIENCE_SECONDS)
    assert stage.statuses() == {"pending": 40}


def test_a_suspect_is_tried_alone_when_all_others_are_done(postgres_engine: sa.Engine) -> None:
    stage = one_step(postgres_engine, 12)
    lose(postgres_engine, "s0", SUSPECT_LOSSES)
    lose(postgres_engine, "s1", SUSPECT_LOSSES + 1)
    stage.run()
    assert stage.statuses() == {"completed": 12}
    calls = [[request.prompt for request in call] for call in stage.engines["small"].calls]
    assert calls[-2:] == [["text 0"], ["text 1"]]
    with postgres_engine.connect() as connection:
        assert (
            connection.execute(sa.text("SELECT sum(losses) FROM forge.interactions")).scalar() == 0
        )


def test_what_was_lost_alone_too_often_ends_as_poison(postgres_engine: sa.Engine) -> None:
    steps = [step("draft", "small"), step("polish", "small", needs=["draft"])]
    stage = planned(postgres_engine, steps, ["a", "b", "c"])
    lose(postgres_engine, "s1", QUARANTINE_LOSSES)
    stage.run()
    assert stage.statuses() == {"completed": 4, "failed": 1, "skipped": 1}
    (failure,) = stage.store.failures_by_class(stage.scope)
    assert (failure.error_class, failure.subject_key) == ("poison", "s1")
    assert "6 workers died or hung with it, the last 3 with nothing" in failure.message


def test_a_worker_whose_leases_ended_while_it_stood_still(postgres_engine: sa.Engine) -> None:
    """It gets its own interactions again while the engine still has them: each is made once more
    at most, and ends once."""
    stage = one_step(postgres_engine, 12)

    @dataclass
    class Still(Echo):
        max_batch: int = 12
        stood: bool = False

        def generate(self, requests: Sequence[GenerationRequest]) -> Iterator[Completion]:
            answers = super().generate(requests)
            if not self.stood:
                self.stood = True
                with postgres_engine.begin() as connection:
                    connection.execute(
                        sa.text("UPDATE forge.interactions SET lease_until = '2020-01-01'")
                    )
                assert stage.store.reclaim_expired(stage.scope) == 12
                yield next(answers)
                deadline = time.monotonic() + PATIENCE_SECONDS
                while not stage.statuses().get("running"):
                    assert time.monotonic() < deadline
            yield from answers

    engine = Still()
    stage.engines["small"] = engine
    outcome = stage.run()
    assert stage.statuses() == {"completed": 12}
    assert outcome.tally.refused >= 1
    assert sum(len(call) for call in engine.calls) <= 24
    ends = sa.text("SELECT count(*) FROM forge.interaction_events WHERE kind = 'completed'")
    with postgres_engine.connect() as connection:
        assert connection.execute(ends).scalar() == 12

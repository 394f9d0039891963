"""Which engine is taken, for how long it is said to need, and the lengths that are learned."""

import threading
from collections.abc import Mapping

from forge_assets.interactions.fetch_ahead import fetching_ahead
from forge_assets.interactions.forecast import choose_engine, forecast
from forge_assets.interactions.output_lengths import OutputLengths
from resources.store_types import Residency


def residency(
    engine: str, *, start: float, busy: float, steps: Mapping[str, tuple[int, int, int]]
) -> Residency:
    return Residency(
        run_id="r",
        model="m",
        definition="d",
        engine=engine,
        device="cpu",
        start_seconds=start,
        busy_seconds=busy,
        interactions=sum(step[0] for step in steps.values()),
        prompt_tokens=sum(step[1] for step in steps.values()),
        output_tokens=sum(step[2] for step in steps.values()),
        reason="configured",
        steps=steps,
    )


SHORT = {"one": (10, 1000, 100)}
SLOW_START = residency("vllm", start=75, busy=1, steps=SHORT)
QUICK_START = residency("transformers", start=2, busy=4, steps=SHORT)


def test_time_goes_with_the_tokens_of_the_steps() -> None:
    history = [residency("e", start=1, busy=10, steps={"one": (10, 0, 100), "two": (10, 0, 400)})]
    found = forecast("e", history, {"one": 20})
    assert found is not None
    assert (found.start_seconds, found.work_seconds, found.answers) == (1, 4, 20)
    both = forecast("e", history, {"one": 10, "two": 10})
    assert both is not None
    assert both.seconds == 11


def test_a_step_that_is_new_is_as_long_as_the_others() -> None:
    history = [residency("e", start=0, busy=10, steps={"one": (10, 0, 100)})]
    found = forecast("e", history, {"new": 10})
    assert found is not None
    assert found.work_seconds == 10


def test_nothing_is_predicted_before_anything_was_measured() -> None:
    assert forecast("e", [], {"one": 5}) is None
    silent = residency("e", start=1, busy=1, steps={"one": (3, 10, 0)})
    assert forecast("e", [silent], {"one": 5}) is None


def test_little_work_goes_to_the_engine_that_starts_sooner_and_much_to_the_faster_one() -> None:
    for work, expected in ((10, "transformers"), (1000, "vllm")):
        found = {
            one.engine: forecast(one.engine, [one], {"one": work})
            for one in (QUICK_START, SLOW_START)
        }
        choice = choose_engine(["transformers", "vllm"], found)
        assert choice.engine == expected
        assert choice.reason.startswith("predicted: transformers")
        assert choice.forecast is found[expected]


def test_the_usual_engine_stays_until_it_was_measured() -> None:
    fast = forecast("vllm", [SLOW_START], {"one": 10})
    choice = choose_engine(["transformers", "vllm"], {"vllm": fast})
    assert choice.engine == "transformers"
    assert "not measured" in choice.reason


def test_an_engine_that_was_not_measured_is_not_taken() -> None:
    usual = forecast("transformers", [QUICK_START], {"one": 10**6})
    choice = choose_engine(["transformers", "vllm"], {"transformers": usual})
    assert choice.engine == "transformers"
    assert "not measured: vllm" in choice.reason


def test_lengths_begin_with_what_earlier_runs_had() -> None:
    lengths = OutputLengths({"one": 10.0})
    assert lengths.expected("one", 64) == 10
    assert lengths.expected("two", 64) == 64
    for _ in range(32):
        lengths.learn("one", 30)
        lengths.learn("two", 500)
    assert lengths.expected("one", 64) == 20
    assert lengths.expected("two", 64) == 64


def test_the_next_model_is_fetched_while_the_last_batches_run() -> None:
    fetched = threading.Event()
    asked: list[str] = []
    answers = iter([{"a": 3}, {"a": 1, "b": 2, "c": 9}])

    def fetch(model: str) -> None:
        asked.append(model)
        fetched.set()

    with fetching_ahead("a", lambda: next(answers), fetch):
        assert fetched.wait(10)
    assert asked == ["c"]


def test_nothing_is_fetched_once_the_batches_are_over() -> None:
    """The thread that looks has ended with them, whatever becomes ready later."""
    asked: list[str] = []
    ready = {"a": 1}
    with fetching_ahead("a", lambda: ready, asked.append):
        assert "fetch-ahead" in [thread.name for thread in threading.enumerate()]
    assert "fetch-ahead" not in [thread.name for thread in threading.enumerate()]
    ready["b"] = 1
    assert asked == []


def test_a_model_that_cannot_be_fetched_ahead_disturbs_nobody() -> None:
    tried = threading.Event()

    def fetch(model: str) -> None:
        tried.set()
        raise RuntimeError("no weights")

    with fetching_ahead("a", lambda: {"b": 1}, fetch):
        assert tried.wait(10)

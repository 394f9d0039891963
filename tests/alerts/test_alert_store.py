"""Messages are written down once, tried a bounded number of times, and not sent twice."""

import threading
from collections.abc import Callable

import pytest
import sqlalchemy as sa

from forge_assets.alerts.delivery import AT_MOST, LOG, TICK_SECONDS, deliver
from forge_assets.alerts.notifier import SECONDS
from resources.alert import Message
from resources.alert_store import WAITS, AlertStore

ONE = Message("run 1", "one", "text")


def message(number: int) -> Message:
    return Message(f"run {number}", f"title {number}", "text")


class Target:
    """Keeps what it was sent; ``said``: why it takes nothing."""

    def __init__(self, said: str = "") -> None:
        self.said = said
        self.got: list[tuple[str, str]] = []

    def __call__(self, target: str, made: Message) -> str:
        self.got.append((target, made.key))
        return self.said


@pytest.fixture
def store(postgres_engine: sa.Engine) -> AlertStore:
    return AlertStore(postgres_engine)


@pytest.fixture
def time_passes(postgres_engine: sa.Engine) -> Callable[[], None]:
    """Every message that waits for its next try is due."""

    def pass_() -> None:
        with postgres_engine.begin() as connection:
            connection.execute(
                sa.text("UPDATE forge.alerts SET next_at = now() WHERE next_at IS NOT NULL")
            )

    return pass_


def test_a_key_is_told_each_target_once(store: AlertStore) -> None:
    assert store.add([ONE, message(2)], ["env:A", "env:B"]) == ["run 1", "run 2"]
    assert store.add([ONE], ["env:A", "env:B"]) == []
    target = Target()
    while store.deliver(target):
        pass
    assert sorted(target.got) == [
        (place, key) for place in ("env:A", "env:B") for key in ("run 1", "run 2")
    ]
    assert store.add([ONE], ["env:A"]) == []
    assert store.deliver(target) is None


def test_nothing_is_added_without_messages(store: AlertStore) -> None:
    assert store.add([], ["env:A"]) == []


def test_what_did_not_arrive_is_tried_again_and_then_given_up(
    store: AlertStore, time_passes: Callable[[], None]
) -> None:
    store.add([ONE], ["env:A"])
    target = Target("refused")
    for _ in WAITS:
        made = store.deliver(target)
        assert made is not None
        assert (made.said, made.again) == ("refused", True)
        assert store.deliver(target) is None
        time_passes()
    last = store.deliver(target)
    assert last is not None
    assert not last.again
    time_passes()
    assert store.deliver(target) is None
    assert len(target.got) == len(WAITS) + 1


def test_two_that_deliver_at_once_send_it_once(store: AlertStore) -> None:
    store.add([ONE], ["env:A"])
    sending, other_is_done = threading.Event(), threading.Event()

    def slow(target: str, made: Message) -> str:
        sending.set()
        assert other_is_done.wait(30)
        return ""

    first = threading.Thread(target=lambda: store.deliver(slow))
    first.start()
    assert sending.wait(30)
    assert store.deliver(Target()) is None
    other_is_done.set()
    first.join()
    assert store.deliver(Target()) is None


def test_a_sender_that_dies_before_it_is_marked_leaves_it_due(store: AlertStore) -> None:
    store.add([ONE], ["env:A"])

    class Killed(BaseException):
        pass

    def die(target: str, made: Message) -> str:
        raise Killed

    with pytest.raises(Killed):
        store.deliver(die)
    target = Target()
    assert store.deliver(target) is not None
    assert target.got == [("env:A", "run 1")]


def test_only_what_is_old_and_over_is_forgotten(
    store: AlertStore, postgres_engine: sa.Engine
) -> None:
    store.add([ONE, message(2)], ["env:A"])
    store.deliver(Target())
    assert store.forget() == 0
    with postgres_engine.begin() as connection:
        connection.execute(sa.text("UPDATE forge.alerts SET made_at = now() - interval '31 d'"))
    assert store.forget() == 1
    assert store.add([message(2)], ["env:A"]) == []


def test_text_that_the_database_refuses_is_mended(store: AlertStore) -> None:
    store.add([Message("run 1", "a\0b", "c\ud800d")], ["env:A"])
    assert store.deliver(Target("e\0f")) is not None


def test_a_target_that_fails_does_not_hold_up_the_others(store: AlertStore) -> None:
    store.add([message(n) for n in range(4)], ["env:BAD", "env:GOOD"])
    got: list[tuple[str, str]] = []

    def send(target: str, made: Message) -> str:
        got.append((target, made.key))
        return "refused" if target == "env:BAD" else ""

    told: list[str] = []
    warned: list[str] = []
    assert deliver(store, send, told.append, warned.append) == 4
    assert [place for place, _ in got].count("env:BAD") == 1
    assert warned == ["env:BAD was not told 'title 0': refused; it is tried again"]
    assert sorted(told) == [f"told env:GOOD: title {n}" for n in range(4)]


def test_a_tick_is_bounded_in_number_and_in_time(store: AlertStore) -> None:
    store.add([message(n) for n in range(AT_MOST + 5)], ["env:A"])
    nobody = list[str]().append
    assert deliver(store, Target(), nobody, nobody) == AT_MOST
    assert deliver(store, Target(), nobody, nobody) == 5
    store.add([message(n) for n in range(100, 110)], ["env:A"])
    times = iter(range(0, 1000, int(SECONDS)))
    assert deliver(store, Target(), nobody, nobody, clock=lambda: float(next(times))) == 3
    assert TICK_SECONDS < 60


def test_with_nobody_to_tell_the_log_says_it(store: AlertStore) -> None:
    store.add([ONE], [LOG])
    warned: list[str] = []
    target = Target()
    assert deliver(store, target, list[str]().append, warned.append) == 1
    assert warned == ["alerts.to of forge.yaml names nobody to tell: one\ntext"]
    assert target.got == []

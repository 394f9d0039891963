"""A server that fails in every way, over real HTTP: each row has its class, the others finish."""

import gzip
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any, Literal

import pytest

from resources.errors import ConfigurationError, InfrastructureError
from resources.gpu.engines import openai_server
from resources.gpu.engines.base import Completion, GenerationRequest
from resources.gpu.engines.openai_http import OpenAIHttpEngine
from resources.gpu.engines.openai_server import Patience
from resources.gpu.model_config import ModelConfig
from resources.interaction import ErrorClass
from tests.chat_server import ChatServer, Reply, completion

HASTE = Patience(passing_tries=3, other_tries=2, first_wait=0.01, longest_wait=2)
KEY = "s3cret-key"
OK = Reply()
Connect = Callable[..., OpenAIHttpEngine]


@pytest.fixture
def connect() -> Iterator[Connect]:
    opened: list[OpenAIHttpEngine] = []

    def engine(server: ChatServer, patience: Patience = HASTE, **config: Any) -> OpenAIHttpEngine:
        settings = {"source": "echo", "engine": "openai_http", "url": server.url, "timeout": 5}
        made = OpenAIHttpEngine(ModelConfig(**(settings | config)), "far", patience)
        opened.append(made)
        return made

    yield engine
    for made in opened:
        made.close()


def rows(*prompts: str, **more: Any) -> list[GenerationRequest]:
    return [GenerationRequest(n, prompt, 8, **more) for n, prompt in enumerate(prompts)]


def outcome(completion: Completion) -> str:
    return completion.error.error_class if completion.error else completion.text


def by_prompt(
    engine: OpenAIHttpEngine, requests: Sequence[GenerationRequest]
) -> dict[str, Completion]:
    found = list(engine.generate(requests))
    assert sorted(row.request_id for row in found) == [row.request_id for row in requests]
    prompts = {request.request_id: request.prompt for request in requests}
    return {prompts[row.request_id]: row for row in found}


FAULTS: dict[str, tuple[list[Reply], str]] = {
    "429 once": ([Reply(429, {}, {"Retry-After": "0.2"}), OK], "429 once"),
    "429 for ever": ([Reply(429, {})], "rate_limit"),
    "wait for an hour": ([Reply(429, {}, {"Retry-After": "3600"})], "rate_limit"),
    "503 twice": ([Reply(503, {}), Reply(503, {}), OK], "503 twice"),
    "503 for ever": ([Reply(503, {})], "rate_limit"),
    "500 for ever": ([Reply(500, {"error": {"message": "out of order"}})], "engine"),
    "garbage": ([Reply(body=b"\x00\xff no json")], "engine"),
    "error as answer": ([Reply(body={"error": {"message": "no luck"}})], "engine"),
    "overload as answer once": (
        [Reply(body={"error": {"message": "overloaded", "code": 503}}), OK],
        "overload as answer once",
    ),
    "overload as answer": (
        [Reply(body={"error": {"message": "overloaded", "code": 429}})],
        "rate_limit",
    ),
    "no choices": ([Reply(body={"choices": []})], "engine"),
    "nothing": ([Reply(body=b"")], "engine"),
    "half": ([Reply(body=b'{"choices": [{"mess', missing=100)], "engine"),
    "half once": ([Reply(body=b'{"choices": [{"mess', missing=100), OK], "half once"),
    "hangs": ([Reply(hangs=True)], "timeout"),
    "hangs once": ([Reply(hangs=True), OK], "hangs once"),
    "long": (
        [Reply(400, {"error": {"message": "maximum context length is 8", "code": 400}})],
        "prompt_too_long",
    ),
    "forbidden word": ([Reply(400, {"error": {"message": "no such parameter"}})], "engine"),
    "moved": ([Reply(302, b"", {"Location": "/elsewhere"})], "engine"),
}


@pytest.fixture(scope="module")
def failing() -> Iterator[ChatServer]:
    with ChatServer({prompt: replies for prompt, (replies, _) in FAULTS.items()}) as server:
        yield server


@pytest.fixture(scope="module")
def answered(failing: ChatServer) -> dict[str, Completion]:
    """All faults among twelve rows that nothing happens to, in one call."""
    config = ModelConfig(source="echo", engine="openai_http", url=failing.url, timeout=0.5)
    engine = OpenAIHttpEngine(config, "far", HASTE)
    try:
        return by_prompt(engine, rows(*FAULTS, *(f"well {n}" for n in range(12))))
    finally:
        engine.close()


@pytest.mark.parametrize("prompt", FAULTS)
def test_every_fault_ends_in_its_class(answered: dict[str, Completion], prompt: str) -> None:
    assert outcome(answered[prompt]) == FAULTS[prompt][1]


def test_the_other_rows_finish(answered: dict[str, Completion]) -> None:
    for n in range(12):
        row = answered[f"well {n}"]
        assert (row.text, row.finish_reason, row.error) == (f"well {n}", "stop", None)
        assert (row.prompt_tokens, row.output_tokens) == (5, 2)


def test_an_error_says_what_the_server_said(answered: dict[str, Completion]) -> None:
    error = answered["500 for ever"].error
    assert error is not None
    assert error.message == "the server answered 500: out of order"


def test_tries_are_bounded_and_only_for_what_may_pass(
    failing: ChatServer, answered: dict[str, Completion]
) -> None:
    tries = {prompt: len(failing.times(prompt)) for prompt in FAULTS}
    assert tries["429 for ever"] == tries["503 for ever"] == tries["wait for an hour"] == 3
    assert tries["overload as answer"] == 3
    assert tries["500 for ever"] == tries["garbage"] == tries["hangs"] == 2
    assert tries["long"] == tries["forbidden word"] == 1


@pytest.mark.parametrize("as_date", [False, True])
def test_retry_after_is_kept_to_by_every_row(connect: Connect, as_date: bool) -> None:
    # A date has whole seconds: at least one of these two is left.
    wait = format_datetime(datetime.now(UTC) + timedelta(seconds=2), True) if as_date else "0.5"
    with ChatServer({"a": [Reply(429, {}, {"Retry-After": wait}), OK]}) as server:
        engine = connect(server, max_batch=1)
        assert [row.text for row in engine.generate(rows("a", "b"))] == ["a", "b"]
        first, second = server.times("a")
        assert second - first >= 0.45
        assert server.times("b")[0] >= second


def test_a_server_that_is_gone_ends_the_work_and_marks_no_row(connect: Connect) -> None:
    server = ChatServer()
    engine = connect(server)
    assert [row.text for row in engine.generate(rows("a"))] == ["a"]
    server.close()
    with pytest.raises(InfrastructureError, match=r"models\.far\.url: no answer from"):
        list(engine.generate(rows("a", "b")))


def test_a_refused_request_never_leaves(connect: Connect) -> None:
    with ChatServer() as server:
        requests = [*rows(" "), GenerationRequest(1, "x", 0), GenerationRequest(2, "x", 4)]
        found = {row.request_id: outcome(row) for row in connect(server).generate(requests)}
        assert found == {0: ErrorClass.TEMPLATE, 1: ErrorClass.ENGINE, 2: "x"}
        assert len(server.asked) == 1


def test_a_server_without_schemas_is_asked_once(connect: Connect) -> None:
    unknown = Reply(400, {"error": {"message": "response_format is not supported"}})
    prompts = [f"row {n}" for n in range(6)]
    with ChatServer({prompts[0]: [unknown, OK]}) as server:
        engine = connect(server, max_batch=1)
        found = by_prompt(engine, rows(*prompts, one_of=("row 0", "row 1")))
        assert all(row.error is None for row in found.values())
        assert {row.provenance["grammar"] for row in found.values()} == {"none"}
        asked = ["response_format" in each.body for each in server.asked]
        assert asked == [True] + [False] * 6
        other = by_prompt(engine, rows("x", json_schema={"type": "object"}))
        assert other["x"].provenance["grammar"] == "json_schema, asked for"


def test_a_bad_request_with_a_schema_does_not_blame_the_schema(connect: Connect) -> None:
    bad = Reply(400, {"error": {"message": "no"}})
    with ChatServer({"a": [bad]}) as server:
        engine = connect(server, max_batch=1)
        found = by_prompt(engine, rows("a", "b", json_schema={"type": "object"}))
        assert outcome(found["a"]) == ErrorClass.ENGINE
        assert found["b"].provenance["grammar"] == "json_schema, asked for"


def test_a_prompt_that_is_too_long_is_sent_once(connect: Connect) -> None:
    with ChatServer({"a": [Reply(400, {"error": "too many tokens"})]}) as server:
        (row,) = connect(server).generate(rows("a", json_schema={"type": "object"}))
        assert outcome(row) == ErrorClass.PROMPT_TOO_LONG
        assert len(server.asked) == 1


def test_provenance_says_what_was_sent(connect: Connect) -> None:
    reply = Reply(body=completion("yes") | {"system_fingerprint": "fp_7"})
    with ChatServer({"a": [reply]}) as server:
        (row,) = connect(server, max_batch=1).generate(rows("a", seed=5, temperature=0.5))
        expected = {
            "engine": "openai_http",
            "attention": "server",
            "dtype": "server",
            "device": server.url.removeprefix("http://").removesuffix("/v1"),
            "model": "echo",
            "batch_size": 1,
            "seed": 5,
            "temperature": 0.5,
            "grammar": "none",
            "system_fingerprint": "fp_7",
        }
        assert expected == {name: row.provenance[name] for name in expected}
        assert row.provenance["batch_id"].startswith("far-")
        (asked,) = server.asked
        assert (asked.body["seed"], asked.body["temperature"]) == (5, 0.5)


# how many at once


def test_never_more_at_once_than_the_ceiling(connect: Connect) -> None:
    with ChatServer(usual=Reply(seconds=0.01)) as server:
        found = list(connect(server, max_batch=3).generate(rows(*map(str, range(40)))))
        assert len(found) == 40
        assert 2 <= server.most_at_once <= 3


def test_more_at_once_while_that_is_faster(connect: Connect) -> None:
    with ChatServer(usual=Reply(seconds=0.05)) as server:
        found = list(connect(server).generate(rows(*map(str, range(60)))))
        assert len(found) == 60
        assert server.most_at_once >= 8
        assert max(row.provenance["batch_size"] for row in found) >= 8


def test_a_server_with_little_capacity_gets_all_rows_in_the_end(connect: Connect) -> None:
    patience = Patience(passing_tries=10, first_wait=0.02)
    with ChatServer(usual=Reply(seconds=0.03), capacity=6) as server:
        found = list(connect(server, patience).generate(rows(*map(str, range(120)))))
        assert {row.error for row in found} == {None}
        refused = len(server.asked) - 120
        assert 0 < refused < 60


def test_connections_are_kept(connect: Connect) -> None:
    with ChatServer() as server:
        engine = connect(server, max_batch=2)
        for _ in range(3):
            list(engine.generate(rows(*map(str, range(10)))))
        assert len(engine._client._transport._pool.connections) <= 2  # type: ignore[attr-defined]


# leaving early


def test_a_call_that_is_left_early_ends_at_once(connect: Connect) -> None:
    script = {f"hang {n}": [Reply(hangs=True)] for n in range(30)}
    with ChatServer(script) as server:
        engine = connect(server, timeout=60)
        before = threading.active_count()
        answers = engine.generate(rows("quick", *script))
        assert next(answers).text == "quick"
        start = time.monotonic()
        answers.close()
        assert time.monotonic() - start < 2
        assert len(server.asked) < 10
        assert [row.text for row in engine.generate(rows("again"))] == ["again"]
        engine.close()
        names = [thread.name for thread in threading.enumerate()]
        assert not [name for name in names if name.startswith("openai_http")]
        assert threading.active_count() <= before + server.most_at_once


def test_closing_twice_is_fine(connect: Connect) -> None:
    with ChatServer() as server:
        engine = connect(server)
        engine.close()
        engine.close()


# at the start


@pytest.mark.parametrize(
    ("reply", "sentence"),
    [
        (
            Reply(401, {"error": {"message": f"bad key {KEY}"}}),
            r"models\.far\.url: http://.*/v1/models answered 401 \(bad key \*\*\*\); correct the key"
            " in FAR_KEY",
        ),
        (Reply(403, {}), r"models\.far\.url: .* answered 403; correct the key in FAR_KEY"),
        (Reply(404, b"<html>"), r"models\.far\.url: .* answered 404; end the url where /models"),
        (
            Reply(body={"data": [{"id": "a"}, {"id": "b"}]}),
            r"models\.far\.source: 127\.0\.0\.1:\d+ has no 'echo', it lists a, b; correct the name",
        ),
    ],
)
def test_a_server_that_refuses_is_a_matter_of_configuration(
    connect: Connect, monkeypatch: pytest.MonkeyPatch, reply: Reply, sentence: str
) -> None:
    monkeypatch.setenv("FAR_KEY", KEY)
    with ChatServer(models=reply) as server:
        with pytest.raises(ConfigurationError, match=sentence) as caught:
            connect(server, api_key_env="FAR_KEY")
        assert KEY not in str(caught.value)


@pytest.mark.parametrize("body", [{"data": []}, {"models": 1}, b"nothing", [1], b"[" * 200_000])
def test_a_server_that_lists_nothing_useful_will_do(connect: Connect, body: Any) -> None:
    with ChatServer(models=Reply(body=body)) as server:
        assert [row.text for row in connect(server).generate(rows("a"))] == ["a"]


@pytest.mark.timeout(20)
@pytest.mark.parametrize("part", ["head", "body"])
def test_a_model_list_has_a_deadline_in_all(
    connect: Connect, monkeypatch: pytest.MonkeyPatch, part: Literal["head", "body"]
) -> None:
    monkeypatch.setattr(openai_server, "_PROBE_SECONDS", 0.5)
    with ChatServer(models=Reply(drips=part)) as server:
        start = time.monotonic()
        with pytest.raises(InfrastructureError, match=r"/models \(not in 0\.5 s\); start the"):
            connect(server, Patience(passing_tries=1))
        assert 0.5 <= time.monotonic() - start < 5
        assert "model list" not in [thread.name for thread in threading.enumerate()]


def test_a_model_list_that_unpacks_to_much_is_cut(connect: Connect) -> None:
    bomb = Reply(body=gzip.compress(bytes(2**28)), headers={"Content-Encoding": "gzip"})
    sentence = r"^models\.far\.url: 127\.0\.0\.1:\d+ answered with over 16 MB; write the url of an"
    with ChatServer(models=bomb) as server:
        tracemalloc.start()
        try:
            with pytest.raises(ConfigurationError, match=sentence):
                connect(server)
            assert tracemalloc.get_traced_memory()[1] < 2**28
        finally:
            tracemalloc.stop()


def test_what_is_packed_without_bound_is_not_unpacked(connect: Connect) -> None:
    twice = {"Content-Encoding": "gzip, gzip"}
    reply = Reply(body=gzip.compress(gzip.compress(b"{}")), headers=twice)
    sentence = "answered in the encoding gzip, gzip, which was not asked for; write the url"
    with ChatServer(models=reply) as server, pytest.raises(ConfigurationError, match=sentence):
        connect(server)
    with ChatServer({"a": [reply]}) as server:
        (row,) = connect(server).generate(rows("a"))
    assert row.error is not None
    assert "answered in the encoding gzip, gzip" in row.error.message


def test_a_model_list_may_be_packed(connect: Connect) -> None:
    packed = gzip.compress(b'{"data": [{"id": "other"}]}')
    models = Reply(body=packed, headers={"Content-Encoding": "gzip"})
    with (
        ChatServer(models=models) as server,
        pytest.raises(ConfigurationError, match="it lists other"),
    ):
        connect(server)


@pytest.mark.parametrize("name", ["echo", "echo:latest"])
def test_a_name_may_lack_its_usual_tag(connect: Connect, name: str) -> None:
    with ChatServer(models=Reply(body={"data": [{"id": name}]})) as server:
        connect(server)


def test_a_server_that_is_down_is_said_after_bounded_tries(connect: Connect) -> None:
    server = ChatServer()
    server.close()
    with pytest.raises(
        InfrastructureError, match=r"no answer from http://.* \(Connection refused\)"
    ):
        connect(server)


def test_a_server_that_is_busy_at_the_start_is_waited_for(connect: Connect) -> None:
    sentence = r"answered 503 \(loading\); run the same"
    busy = ChatServer(models=Reply(503, {"error": "loading"}))
    with busy as server, pytest.raises(InfrastructureError, match=sentence):
        connect(server)


@pytest.mark.parametrize(("value", "said"), [("", "is not set"), ("a\nb", "holds no key that")])
def test_a_key_that_is_not_there(
    connect: Connect, monkeypatch: pytest.MonkeyPatch, value: str, said: str
) -> None:
    monkeypatch.setenv("FAR_KEY", value)
    with ChatServer() as server, pytest.raises(ConfigurationError, match=said):
        connect(server, api_key_env="FAR_KEY")


def test_the_key_goes_with_every_request_and_into_no_message(
    connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAR_KEY", KEY)
    with ChatServer({"a": [Reply(400, {"error": f"{KEY} may not"})]}) as server:
        (row,) = connect(server, api_key_env="FAR_KEY").generate(rows("a"))
        assert server.asked[0].headers["Authorization"] == f"Bearer {KEY}"
        assert row.error is not None
        assert row.error.message == "the server answered 400: *** may not"
        assert KEY not in repr(row)


ESCAPED = b'{"error": {"message": "bad key s3cret\\u002dkey"}}'
"""The key as other languages write it in JSON."""


@pytest.mark.parametrize(
    "reply",
    [
        Reply(400, ESCAPED),
        Reply(body=completion(f"you are {KEY}") | {"system_fingerprint": KEY}),
        Reply(401, {"error": f"{KEY}"}),
    ],
)
def test_the_key_is_in_nothing_that_a_server_says(
    connect: Connect, monkeypatch: pytest.MonkeyPatch, reply: Reply
) -> None:
    monkeypatch.setenv("FAR_KEY", KEY)
    with ChatServer({"a": [reply]}) as server:
        (row,) = connect(server, api_key_env="FAR_KEY").generate(rows("a"))
        assert KEY not in repr(row)
        assert "***" in repr(row)


@pytest.mark.parametrize(
    "models",
    [Reply(401, ESCAPED), Reply(body={"data": [{"id": f"Bearer {KEY}\x1b[31m\nforge: GO"}]})],
)
def test_neither_the_key_nor_a_terminal_s_codes_are_in_what_a_model_list_says(
    connect: Connect, monkeypatch: pytest.MonkeyPatch, models: Reply
) -> None:
    monkeypatch.setenv("FAR_KEY", KEY)
    with ChatServer(models=models) as server, pytest.raises(ConfigurationError) as caught:
        connect(server, api_key_env="FAR_KEY")
    assert KEY not in str(caught.value)
    assert str(caught.value).isprintable()


def test_an_answer_that_is_too_large_is_not_read_to_its_end(connect: Connect) -> None:
    with ChatServer({"a": [Reply(body=completion("x" * (17 * 2**20)))]}) as server:
        (row,) = connect(server).generate(rows("a"))
    assert row.error is not None
    assert "answered with over 16 MB" in row.error.message


def test_a_date_beyond_all_calendars_is_no_retry_after(connect: Connect) -> None:
    far = {"Retry-After": "Mon, 01 Jan 99999999999 00:00:00 GMT"}
    with ChatServer({"a": [Reply(429, {}, far), OK]}) as server:
        assert [row.text for row in connect(server).generate(rows("a"))] == ["a"]

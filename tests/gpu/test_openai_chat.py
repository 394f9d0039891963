"""The chat protocol without a network: bodies, answers, faults."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from resources.gpu.engines.base import GenerationRequest
from resources.gpu.engines.openai_chat import (
    Fault,
    chat_body,
    read_answer,
    read_fault,
    server_sentence,
)
from resources.interaction import ErrorClass
from tests.chat_server import completion

NOW = datetime(2026, 1, 1, 12, 0, 0, tzinfo=UTC)
PLAIN = GenerationRequest(1, "Hello", 9, seed=3)


def request(**more: Any) -> GenerationRequest:
    return GenerationRequest(1, "Hello", 9, **more)


def test_a_plain_body() -> None:
    assert chat_body(PLAIN, "m", constrained=True) == {
        "model": "m",
        "messages": [{"role": "user", "content": "Hello"}],
        "max_tokens": 9,
        "temperature": 0.0,
        "top_p": 1.0,
        "seed": 3,
        "stream": False,
    }


def test_what_differs_from_the_default_is_sent() -> None:
    body = chat_body(
        request(system="Be brief.", stop=("\n",), top_k=5, repetition_penalty=1.2), "m", True
    )
    assert body["messages"][0] == {"role": "system", "content": "Be brief."}
    assert (body["stop"], body["top_k"], body["repetition_penalty"]) == (["\n"], 5, 1.2)


@pytest.mark.parametrize(
    ("more", "schema"),
    [
        ({"json_schema": {"type": "object"}}, {"type": "object"}),
        ({"one_of": ("yes", "no")}, {"type": "string", "enum": ["yes", "no"]}),
    ],
)
def test_a_grammar_is_asked_for_as_a_schema(more: dict[str, Any], schema: dict[str, Any]) -> None:
    asked = chat_body(request(**more), "m", constrained=True)["response_format"]
    assert (asked["type"], asked["json_schema"]["schema"]) == ("json_schema", schema)
    assert "response_format" not in chat_body(request(**more), "m", constrained=False)


def test_an_answer() -> None:
    reply = completion("Hi", finish_reason="length") | {"system_fingerprint": "fp_1"}
    answer = read_answer(json.dumps(reply).encode(), PLAIN)
    assert (answer.text, answer.finish_reason, answer.fingerprint) == ("Hi", "length", "fp_1")
    assert (answer.prompt_tokens, answer.output_tokens) == (5, 2)


@pytest.mark.parametrize("usage", [None, {}, {"prompt_tokens": "many"}, []])
def test_without_counts_there_are_none(usage: Any) -> None:
    answer = read_answer(json.dumps(completion("Hi") | {"usage": usage}).encode(), PLAIN)
    assert (answer.prompt_tokens, answer.output_tokens) == (0, 0)


@pytest.mark.parametrize(
    ("said", "text"), [('"yes"', "yes"), ("yes", "yes"), ('"perhaps"', '"perhaps"'), ('"', '"')]
)
def test_an_alternative_comes_bare(said: str, text: str) -> None:
    reply = json.dumps(completion(said)).encode()
    assert read_answer(reply, request(one_of=("yes", "no"))).text == text


def test_the_text_ends_before_the_first_stop() -> None:
    reply = json.dumps(completion("a b c")).encode()
    assert read_answer(reply, request(stop=("c", "b"))).text == "a "


def test_a_thought_that_was_cut_off_is_an_empty_answer() -> None:
    reply = json.dumps(completion(None, finish_reason="length")).encode()
    assert read_answer(reply, PLAIN).finish_reason == "length"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "the server answered with an empty body"),
        (b"<html>", "the server answered with no chat completion"),
        (b'{"choices": []}', "the server answered with no chat completion"),
        (b'{"choices": null}', "the server answered with no chat completion"),
        (b'{"choices": [{"message": null}]}', "the server answered with no chat completion"),
        (b"[1]", "the server answered with no chat completion"),
        (b"\xff\xfe", "the server answered with no chat completion"),
        (json.dumps(completion(None)).encode(), "the server answered without a text"),
    ],
)
def test_what_is_no_answer(content: bytes, message: str) -> None:
    with pytest.raises(Fault) as caught:
        read_answer(content, PLAIN)
    assert (caught.value.error.error_class, str(caught.value)) == (ErrorClass.ENGINE, message)


@pytest.mark.parametrize(
    ("error", "error_class", "what"),
    [
        ({"message": "overloaded", "code": 503}, ErrorClass.RATE_LIMIT, "an error: overloaded"),
        ({"message": "slower", "code": 429}, ErrorClass.RATE_LIMIT, "an error: slower"),
        ({"message": "broken", "code": "E7"}, ErrorClass.ENGINE, "an error: broken"),
        ({"message": "broken", "code": [429]}, ErrorClass.ENGINE, "an error: broken"),
        ({"code": 503}, ErrorClass.RATE_LIMIT, 'an error: {"code": 503}'),
        ("x\x1b[31m" + "y" * 1000 + "\nz", ErrorClass.ENGINE, "an error: x[31m" + "y" * 295),
        (None, ErrorClass.ENGINE, "no chat completion"),
    ],
)
def test_an_error_may_come_as_an_answer(error: Any, error_class: ErrorClass, what: str) -> None:
    with pytest.raises(Fault) as caught:
        read_answer(json.dumps({"error": error}).encode(), PLAIN)
    assert str(caught.value) == f"the server answered with {what}"
    assert (caught.value.error.error_class, caught.value.refused) == (error_class, False)


@pytest.mark.parametrize(
    ("status", "body", "error_class", "refused"),
    [
        (429, {}, ErrorClass.RATE_LIMIT, False),
        (503, {}, ErrorClass.RATE_LIMIT, False),
        (502, {}, ErrorClass.CONNECTION, False),
        (504, {}, ErrorClass.TIMEOUT, False),
        (500, {}, ErrorClass.ENGINE, False),
        (301, {}, ErrorClass.ENGINE, True),
        (404, {}, ErrorClass.ENGINE, True),
        (400, {"error": {"message": "top_k is unknown"}}, ErrorClass.ENGINE, True),
        (413, {}, ErrorClass.PROMPT_TOO_LONG, True),
        (
            400,
            {"error": {"message": "This model's maximum context length is 4096 tokens."}},
            ErrorClass.PROMPT_TOO_LONG,
            True,
        ),
        (
            400,
            {"error": {"message": "Too much.", "code": "context_length_exceeded"}},
            ErrorClass.PROMPT_TOO_LONG,
            True,
        ),
        (
            400,
            {"error": {"message": "the request exceeds the available context size", "code": 400}},
            ErrorClass.PROMPT_TOO_LONG,
            True,
        ),
    ],
)
def test_what_a_status_means(
    status: int, body: dict[str, Any], error_class: ErrorClass, refused: bool
) -> None:
    fault = read_fault(status, json.dumps(body), None, NOW)
    assert (fault.error.error_class, fault.refused) == (error_class, refused)


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        (None, None),
        ("7", 7.0),
        ("0.5", 0.5),
        ("Thu, 01 Jan 2026 12:00:30 GMT", 30.0),
        ("Thu, 01 Jan 2026 11:00:00 GMT", 0.0),
        ("soon", None),
        ("-1", None),
    ],
)
def test_retry_after_is_a_number_or_a_date(header: str | None, seconds: float | None) -> None:
    assert read_fault(429, "", header, NOW).retry_after == seconds


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ('{"error": {"message": "No such model.\\nTry another."}}', "No such model."),
        ('{"error": "busy"}', "busy"),
        ('{"detail": [{"msg": "bad"}]}', '[{"msg": "bad"}]'),
        ("plain words", "plain words"),
        ("<html><body>502</body></html>", ""),
        ("", ""),
        ("x" * 1000, "x" * 300),
    ],
)
def test_what_a_server_says(content: str, sentence: str) -> None:
    assert server_sentence(content) == sentence

"""One attempt: what a claim asks for, and what a completion makes of it."""

from dataclasses import replace
from datetime import timedelta

import pytest

from forge_assets.interactions.attempt import (
    RETRY_TEMPERATURE,
    conclude,
    prepare,
    retry_delay,
    row_seed,
)
from forge_assets.workflow.spec import GenerateParams, OutputContract, Step
from resources.gpu.engines.base import Completion, EngineError, GenerationRequest
from resources.interaction import Claim, ErrorClass, Result, Status


def step(**changes: object) -> Step:
    values: dict[str, object] = {
        "name": "grade",
        "model": "m",
        "prompt": "Say {word}",
        "generate": GenerateParams(max_new_tokens=8, seed=7),
        "output": OutputContract(min_chars=3),
        "retries": 2,
    }
    return Step.model_validate(values | changes)


def claim(attempt: int = 0, **fields: object) -> Claim:
    fields = fields or {"word": "hello"}
    return Claim(5, 99, "grade", "m", "key", 0, attempt, fields, {})


def completion(text: str, **changes: object) -> Completion:
    values: dict[str, object] = {
        "request_id": 5,
        "text": text,
        "finish_reason": "stop",
        "prompt_tokens": 4,
        "output_tokens": 2,
        "seconds": 0.5,
    }
    return Completion(**(values | changes))  # type: ignore[arg-type]


def end(text: str, attempt: int = 0, **changes: object) -> Result:
    request = prepare(step(), claim(attempt))
    assert isinstance(request, GenerationRequest)
    return conclude(step(), claim(attempt), request, completion(text, **changes))


def test_the_first_attempt_asks_for_what_the_step_says() -> None:
    request = prepare(step(), claim())
    assert isinstance(request, GenerationRequest)
    assert (request.request_id, request.prompt) == (5, "Say hello")
    assert (request.temperature, request.max_new_tokens) == (0.0, 8)


def test_a_later_attempt_samples_with_another_seed() -> None:
    request = prepare(step(), claim(attempt=2))
    assert isinstance(request, GenerationRequest)
    assert request.temperature == RETRY_TEMPERATURE
    assert request.seed == row_seed(7, claim(attempt=2))


def test_what_was_rejected_is_asked_for_anew_in_another_way() -> None:
    requests = [prepare(step(), replace(claim(), renewals=number)) for number in range(3)]
    assert [request.temperature for request in requests] == [0.0] + [RETRY_TEMPERATURE] * 2
    assert len({request.seed for request in requests}) == 3


def test_every_subject_step_and_attempt_draws_for_itself_and_the_same_again() -> None:
    other = replace(claim(), subject_key="other")
    seeds = [row_seed(7, claim()), row_seed(8, claim()), row_seed(7, claim(1)), row_seed(7, other)]
    assert len(set(seeds)) == 4
    assert row_seed(7, claim()) == seeds[0]


def test_every_generation_parameter_reaches_the_request() -> None:
    wanted = {"top_p": 0.5, "top_k": 3, "repetition_penalty": 1.2, "temperature": 0.3}
    request = prepare(step(generate={**wanted, "stop": ["\n"]}), claim())
    assert isinstance(request, GenerationRequest)
    assert {name: getattr(request, name) for name in wanted} == wanted
    assert request.stop == ("\n",)


def test_a_missing_field_ends_as_failed_without_a_request() -> None:
    result = prepare(step(), claim(other="x"))
    assert isinstance(result, Result)
    assert (result.status, result.error_class) == (Status.FAILED, ErrorClass.TEMPLATE)
    assert "word" in str(result.error_message)


def test_an_output_within_its_contract_completes() -> None:
    result = end("fine")
    assert (result.status, result.output, result.token) == (Status.COMPLETED, "fine", 99)
    assert result.provenance["seconds"] == 0.5


def test_a_broken_contract_is_tried_again_at_once_and_rejected_in_the_end() -> None:
    first, last = end("no"), end("no", attempt=2)
    assert (first.status, first.retry_in) == (Status.PENDING, 0)
    assert (last.status, last.error_class) == (Status.REJECTED, ErrorClass.CONTRACT)
    assert last.output == "no"


def test_a_fault_waits_before_it_is_tried_again_and_fails_in_the_end() -> None:
    error = EngineError(ErrorClass.CONNECTION, "refused")
    first = end("", error=error, finish_reason="error")
    assert first.status is Status.PENDING
    assert first.retry_in is not None
    assert first.retry_in > 0
    last = end("", attempt=2, error=error, finish_reason="error")
    assert (last.status, last.error_message, last.output) == (Status.FAILED, "refused", None)


@pytest.mark.parametrize("kind", [ErrorClass.POISON, ErrorClass.PROMPT_TOO_LONG])
def test_what_cannot_succeed_is_not_tried_again(kind: ErrorClass) -> None:
    result = end("", error=EngineError(kind, "no"), finish_reason="error")
    assert (result.status, result.error_class) == (Status.FAILED, kind)


def test_waiting_grows_and_has_a_bound() -> None:
    waits = [retry_delay(ErrorClass.ENGINE, claim(attempt)) for attempt in range(12)]
    assert waits[0] < waits[3] < waits[5]
    assert max(waits) <= 90
    assert retry_delay(ErrorClass.ENGINE, claim(1)) == waits[1]
    assert timedelta(seconds=waits[0]) > timedelta(0)

"""One attempt at an interaction: claim -> request, completion -> result. Pure."""

import hashlib
import random
from typing import Any

from forge_assets.workflow.spec import Step
from forge_assets.workflow.template import TemplateError, render
from forge_assets.workflow.verdict import judge_output
from resources.gpu.engines.base import Completion, GenerationRequest
from resources.interaction import SUSPECT_LOSSES, Claim, ErrorClass, Result, Status

RETRY_TEMPERATURE = 0.7
"""A greedy answer that was refused comes back the same; later attempts, and rejected
ones that `forge retry` asks for anew, sample at least this hot."""
QUARANTINE_LOSSES = SUSPECT_LOSSES + 3
"""Workers that an interaction may take with it; the last ones had nothing else to do."""
_BACKOFF_SECONDS = 2.0
_BACKOFF_LIMIT = 60.0
_WEIGHING_THE_OUTPUT = frozenset({ErrorClass.CONTRACT, ErrorClass.TRUNCATED, ErrorClass.REPETITION})


def prepare(step: Step, claim: Claim, *, suspect: bool = True) -> GenerationRequest | Result:
    """The request for the engine; the final result when a template name is missing, or when a
    ``suspect`` has ended too many workers."""
    if suspect and claim.losses >= QUARANTINE_LOSSES:
        return _ended(
            claim,
            ErrorClass.POISON,
            f"{claim.losses} workers died or hung with it, the last"
            f" {QUARANTINE_LOSSES - SUSPECT_LOSSES} with nothing else to do",
        )
    try:
        prompt = render(step.prompt, claim.fields, claim.ancestors)
        system = render(step.system, claim.fields, claim.ancestors) if step.system else None
    except TemplateError as error:
        return _ended(claim, ErrorClass.TEMPLATE, str(error))
    generate = step.generate
    temperature = generate.temperature
    if claim.attempt or claim.renewals:
        temperature = max(temperature, RETRY_TEMPERATURE)
    return GenerationRequest(
        request_id=claim.interaction_id,
        prompt=prompt,
        system=system,
        max_new_tokens=generate.max_new_tokens,
        temperature=temperature,
        top_p=generate.top_p,
        top_k=generate.top_k,
        repetition_penalty=generate.repetition_penalty,
        seed=row_seed(generate.seed, claim),
        stop=tuple(generate.stop),
        json_schema=step.output.json_schema,
        one_of=step.output.one_of,
    )


def _ended(claim: Claim, error_class: ErrorClass, message: str) -> Result:
    return Result(
        interaction_id=claim.interaction_id,
        token=claim.token,
        status=error_class.final_status,
        error_class=error_class,
        error_message=message,
    )


def row_seed(seed: int, claim: Claim) -> int:
    """The step's seed made the row's own: with one seed for all, every row would draw alike.

    The same subject, step and attempt draw the same again, until somebody asks for it anew.
    """
    name = f"{seed}/{claim.step}/{claim.subject_key}/{claim.attempt}"
    if claim.renewals:
        name += f"/{claim.renewals}"
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:4])


def conclude(
    step: Step, claim: Claim, request: GenerationRequest, completion: Completion
) -> Result:
    """What the completion makes of the interaction: completed, tried again, rejected or failed."""
    verdict = None
    if completion.error is None:
        truncated = completion.finish_reason in ("length", "repetition")
        verdict = judge_output(completion.text, step.output, truncated)
        error_class, message = verdict.error_class, verdict.reason
    else:
        error_class, message = completion.error.error_class, completion.error.message
    common: dict[str, Any] = {
        "interaction_id": claim.interaction_id,
        "token": claim.token,
        "prompt": request.prompt,
        "system": request.system,
        "output": completion.text if completion.error is None else None,
        "prompt_tokens": completion.prompt_tokens,
        "output_tokens": completion.output_tokens,
        "provenance": {**completion.provenance, "seconds": completion.seconds},
    }
    if error_class is None:
        parsed = verdict.parsed if verdict else None
        return Result(status=Status.COMPLETED, parsed=parsed, **common)
    common |= {"error_class": error_class, "error_message": message}
    if error_class.retryable and claim.attempt < step.retries:
        delay = retry_delay(error_class, claim)
        return Result(status=Status.PENDING, retry_in=delay, **common)
    return Result(status=error_class.final_status, **common)


def retry_delay(error_class: ErrorClass, claim: Claim) -> float:
    """Seconds to wait: none for an output to be made anew, doubling with jitter for faults."""
    if error_class in _WEIGHING_THE_OUTPUT:
        return 0.0
    jitter = random.Random(f"{claim.interaction_id}/{claim.attempt}").uniform(0.5, 1.5)
    return float(min(_BACKOFF_LIMIT, _BACKOFF_SECONDS * 2**claim.attempt)) * jitter

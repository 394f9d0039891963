"""A small stage in a real store, worked on by hand: every end, a retry, texts that break Markdown."""

from collections.abc import Mapping
from datetime import UTC, datetime

from resources.interaction import Claim, ErrorClass, Result, Status, StepState, Transition
from resources.interaction_store import InteractionStore, PlannedStep, StageScope
from resources.store_types import ResourceSample
from resources.subject_record import subject_record

DATASET = "postings"
WORKFLOW = "review"
STEPS = [
    PlannedStep("summarize", "version-s", "small", root=True),
    PlannedStep("grade", "version-g", "big", root=True),
]
VERSIONS = {step.name: step.version for step in STEPS}
CANARY = StageScope(DATASET, WORKFLOW, "canary", 0, 3)
RUN = "run-1"
HOSTILE = "# no heading\n| a | b |\n```\nescaped?\n```` <script>x</script> \x1b[31mred\u202e"
KEYS = ["a", "b `tick` | pipe", "c", "d"]


def nothing_moves(states: Mapping[str, StepState]) -> Mapping[str, Transition]:
    return {}


def work_stage(store: InteractionStore) -> None:
    """Four subjects, three in the stage; of six interactions two complete, two are rejected, one
    fails, one is tried twice and completes."""
    records = [
        subject_record({"key": key, "text": f"{key}\n{HOSTILE}"}, None, 10**6) for key in KEYS
    ]
    store.ingest(DATASET, records)
    store.sync_stages(DATASET, [("canary", 0, 3), ("ramp", 3, 6), ("full", 6, 9), ("more", 9, 12)])
    store.plan_stage(CANARY, STEPS, nothing_moves)
    store.register_run(RUN, CANARY, pid=1, host="here")
    for model in ("small", "big"):
        store.add_load(RUN, model, seconds=1.5, bytes=10**8, tier="disk")
    store.add_samples([sample(n) for n in range(8)])
    for _ in range(2):
        for model in ("small", "big"):
            claims = store.claim(
                CANARY, model, run_id=RUN, limit=10, lease_seconds=60, ancestors_of={}
            )
            store.commit(RUN, [result(claim) for claim in claims], nothing_moves)
    store.end_run(RUN, CANARY, "finished")


def result(claim: Claim) -> Result:
    done = {"prompt": f"Do {HOSTILE}", "system": "Be `brief`.", "prompt_tokens": 10}
    made = {**done, "output": f"out of {claim.subject_key}\n{HOSTILE}", "output_tokens": 5}
    match claim.ordinal, claim.step, claim.attempt:
        case 2, "grade", 0:
            return Result(
                claim.interaction_id,
                claim.token,
                Status.PENDING,
                **{**made, "output": "first try"},
                error_class=ErrorClass.CONTRACT,
                error_message="'clarity' is missing",
                retry_in=0.0,
            )
        case 0, "grade", _:
            return Result(
                claim.interaction_id,
                claim.token,
                Status.FAILED,
                **done,
                error_class=ErrorClass.OOM,
                error_message=f"out of memory\n{HOSTILE}",
            )
        case _, "summarize", _ if claim.ordinal > 0:
            return Result(
                claim.interaction_id,
                claim.token,
                Status.REJECTED,
                **made,
                error_class=ErrorClass.CONTRACT,
                error_message="shorter than min_chars",
            )
    return Result(
        claim.interaction_id,
        claim.token,
        Status.COMPLETED,
        **made,
        parsed={"clarity": 3},
        provenance={"engine": "transformers", "seconds": 0.5},
    )


def sample(second: int) -> ResourceSample:
    return ResourceSample(
        run_id=RUN,
        memory_total=16 * 10**9,
        memory_available=12 * 10**9,
        connections_total=5 + second,
        connections_active=1,
        connections_idle=4 + second,
        connections_max=100,
        at=datetime(2025, 1, 1, 0, 0, second, tzinfo=UTC),
    )

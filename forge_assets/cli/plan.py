"""`forge plan`: the dry run of a stage."""

import json

from forge_assets.cli.open import open_store, out, plan_of
from forge_assets.interactions.dry_run import ENGINES, DryRun, dry_run


def show(workflow: str | None, stage_key: str, as_json: bool) -> int:
    plan = plan_of(workflow)
    answer = dry_run(plan, plan.project.stage(stage_key), open_store())
    if as_json:
        out(json.dumps(answer.as_json(), indent=2))
    else:
        _print(answer)
    return 0


def _print(answer: DryRun) -> None:
    out(
        f"{answer.partition}: {answer.subjects} subjects, at most {answer.interactions_at_most}"
        f" interactions to do, {answer.done} done"
    )
    if not answer.subjects:
        which = "that is known so far" if answer.as_last_read else "of the source"
        out(f"no subject {which} falls into this stage")
        _print_caveat(answer)
        return
    for group in answer.groups:
        size = "size unknown until converted"
        if group.server is not None:
            size = f"served by {group.server}"
        elif group.memory_bytes is not None:
            size = f"at most {group.memory_bytes / 1e6:.0f} MB"
            size += f" and about {(group.working_bytes or 0) / 1e6:.0f} MB to work in"
            if group.memory_seen is not None:
                size += f"; seen: {group.memory_seen / 1e6:.0f} MB in all"
        out(f"  {group.model} ({size}): at most {group.at_most}, steps {', '.join(group.steps)}")
        took = "not measured yet" if group.seconds is None else f"about {group.seconds:.0f} s"
        out(f"    {group.engine} ({group.engine_reason}): {took} for some {group.answers} answers")
    out(f"model loads: {answer.loads}")
    _print_caveat(answer)
    for warning in answer.warnings:
        out(f"warning: {warning}")
    if answer.seconds is None:
        out("time: not measured yet; the first stage will tell")
    elif answer.measured_on == ENGINES:
        out(f"time: about {answer.seconds:.0f} s, as these engines took before")
    else:
        out(f"time: about {answer.seconds:.0f} s at the rate of {answer.measured_on}")


def _print_caveat(answer: DryRun) -> None:
    if answer.as_last_read:
        out(
            "what has changed in the subjects' source since it was read last is not in these figures"
        )

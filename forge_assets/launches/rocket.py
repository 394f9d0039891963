"""What a terminal shows of a result, and the one line that anything else gets."""

from collections.abc import Iterator

from forge_assets.launches.outcome import MONITOR, LaunchResult

ROCKET = r"""
             .
            /3\
           /3 6\
          | 3 6 |
          |3 6 9|
          | 6 9 |
         /|3 6 9|\
        /_|_____|_\
           \ 9 /
            ' '
           .  '  .
"""

_WAITING = {
    "queued": "waiting for quota",
    "pending": "its machines are being made ready",
    "running": "it runs",
}


def found_line(result: LaunchResult) -> str:
    """``JOB FOUND (age, state)``; "" when none was."""
    if result.job_state is None:
        return ""
    return f"JOB FOUND (age: {result.age or 0:.0f} s, state: JOB_STATE_{result.job_state})"


def lines(result: LaunchResult) -> Iterator[str]:
    """For a terminal."""
    if result.job_state is not None:
        yield found_line(result)
        yield f"  {result.job_name}"
    if result.submitted:
        yield ROCKET
        waiting = _WAITING[result.outcome]
        yield f"Submitted to {result.region} after {result.seconds:.0f} s: {waiting}."
        yield from (f"  {advice}" for advice in result.advice)
    elif not result.exit_code:
        yield f"Done: the job has SUCCEEDED already, {result.seconds:.0f} s after the launch."
    else:
        yield from _failure(result)
    for name in result.duplicates:
        yield f"One job too many carries the label of this launch: {name}"
        yield f"  forge cancel {name.rsplit('/', 1)[-1]}"
    if result.exit_code:
        yield f"Why: forge diagnose {result.launch.hex[:8]}"
    if result.outcome != "rejected":
        yield f"Watch it: {MONITOR}"


def _failure(result: LaunchResult) -> Iterator[str]:
    yield f"NOT SUBMITTED ({result.outcome}): {result.sentence}"
    if result.outcome == "timeout":
        yield "Possible reasons:"
        yield from (f"  - {reason}" for reason in result.advice)
    else:
        yield from (f"  {advice}" for advice in result.advice)
    if result.outcome in ("timeout", "unknown"):
        yield "The same command goes on with it for an hour; it may still get its job."
        yield f"  forge cancel {result.launch.hex[:8]} if it is not to run"
    if result.hops:
        yield "Last known:"
        width = max(len(hop.station) for hop in result.hops)
        for hop in result.hops:
            yield f"  {hop.station:<{width}}  {hop.state}" + (f"  ({hop.name})" if hop.name else "")

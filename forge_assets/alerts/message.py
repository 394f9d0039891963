"""What people are told: title and text of an alert. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from resources.alert import Message

if TYPE_CHECKING:
    from resources.launch_store import Launch

_NAMED = 3
"""Checks that a title names; of more it gives the number."""
_SHOWN = 40
"""Checks in a text: a workflow may have hundreds of steps."""
_TEXT = 1000
"""Characters of a sentence: a message of most services is short."""


@dataclass(frozen=True, slots=True)
class FailedCheck:
    """``asset``: as `review/results`. ``description``: what was measured, against its limit."""

    asset: str
    name: str
    description: str
    warns: bool = False

    @property
    def short(self) -> str:
        """Without the asset for a check of the stage: the title says which stage."""
        step = self.asset.rpartition("/")[2]
        return self.name if step == "results" else f"{step} {self.name}"


@dataclass(frozen=True, slots=True)
class EndedRun:
    """A run that is over. ``workflow`` and ``stage`` are "" where it has none; ``subject``: what a
    title calls it then. ``reason``: why it failed, "" when nothing but its checks did.
    ``interrupted``: somebody stopped it. ``several``: the project has more than one workflow."""

    run_id: str
    failed: bool
    subject: str
    workflow: str = ""
    stage: str = ""
    reason: str = ""
    interrupted: bool = False
    several: bool = False
    checks: Sequence[FailedCheck] = ()

    @property
    def only_warns(self) -> bool:
        return not self.failed and all(check.warns for check in self.checks)


def run_key(run_id: str) -> str:
    return f"run {run_id}"


def launch_key(launch: "Launch") -> str:
    return f"launch {launch.id}"


def run_message(run: EndedRun, base_url: str | None = None, key: str | None = None) -> Message:
    """Of a run that failed, or in which checks failed. ``key``: when it tells of something else."""
    lines = []
    if run.reason:
        lines.append(_cut(run.reason))
    mixed = len({check.asset.split("/")[0] for check in run.checks}) > 1
    lines += [_check_line(check, mixed) for check in run.checks[:_SHOWN]]
    if len(run.checks) > _SHOWN:
        lines.append(f"and {len(run.checks) - _SHOWN} more")
    lines.append("")
    if run.workflow:
        lines.append(f"workflow: {run.workflow}")
    if run.stage:
        lines.append(f"stage: {run.stage}")
    lines.append(f"run: {run.run_id}")
    if base_url:
        lines.append(f"{base_url}/runs/{run.run_id}")
    lines += _looks(run)
    return Message(key or run_key(run.run_id), _run_title(run), "\n".join(lines).strip())


def _looks(run: EndedRun) -> Sequence[str]:
    """The commands that show more, as they have to be typed."""
    if not (run.workflow and run.stage):
        return []
    names = run.workflow.split(", ") if run.several else [""]
    options = [f"--workflow {name} " if name else "" for name in names]
    return [f"look: forge report {option}--stage {run.stage}" for option in options]


def launch_message(launch: "Launch", base_url: str | None = None) -> Message:
    """Of a launch that ended badly."""
    state = launch.state.replace("_", " ")
    lines = [_cut(launch.reason) if launch.reason else "no reason is known yet", ""]
    named = {
        "job": launch.job_name,
        "execution": launch.execution,
        "W&B run": launch.wandb_run,
        "region": launch.region,
        "launch": launch.id,
    }
    lines += [f"{name}: {value}" for name, value in named.items() if value]
    if base_url:
        lines.append(f"{base_url}/assets/launches")
    resource = launch.job_name or launch.execution
    if resource:
        lines.append(f"look: forge diagnose {resource}")
    title = f"launch {launch.id.hex[:8]} of {launch.job}: {state}"
    return Message(launch_key(launch), title, "\n".join(lines))


def _run_title(run: EndedRun) -> str:
    subject = " ".join(part for part in (run.workflow, run.stage) if part) or run.subject
    blocking = [check for check in run.checks if not check.warns]
    if run.reason or not run.checks:
        return f"{subject}: the run failed"
    if not blocking:
        return f"{subject}: {_named(run.checks, 'warns', 'warn')}"
    return f"{subject}: {_named(blocking, 'failed', 'failed')}"


def _named(checks: Sequence[FailedCheck], one: str, several: str) -> str:
    if len(checks) > _NAMED:
        return f"{len(checks)} checks {several}"
    return f"{', '.join(check.short for check in checks)} {one if len(checks) == 1 else several}"


def _check_line(check: FailedCheck, mixed: bool) -> str:
    """``mixed``: checks of several workflows stand side by side."""
    name = f"{check.asset} {check.name}" if mixed else check.short
    return f"- {name}{' (warns)' if check.warns else ''}: {_cut(check.description)}"


def _cut(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= _TEXT else f"{text[:_TEXT]}…"

"""The record of a run: bench/<machine>.json, and .md to be read."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from forge_assets.bench.contest import Contest
from forge_assets.bench.figures import PROJECTED_ROWS, Figures
from forge_assets.bench.overhead import Overhead
from forge_assets.bench.workers import FourWays
from forge_assets.markdown import table

TARGETS = {"bfloat16": 10.0, "float32": 4.0}
"""Times sequential, in tokens/s, of our engine on a CPU."""
_LEGEND = f"""\
Start-up: from converted weights on disk to the first token of a first row. Valid: texts that the step's
contract accepts, cut at the step's stop texts. {PROJECTED_ROWS} interactions: the start-up and
{PROJECTED_ROWS} times the seconds of one, a projection where fewer were run.
The share of the roofline says how near a contestant comes to the least time in which this device could
read the weights, keys and values and do the multiplications of the same rows, all rows at once, what
prompts begin with in common computed once, at the rates measured beside it."""
_WORKERS = """\
Workers are threads over one loaded model. Without batches each calls `generate` for its own rows while
the others do the same. With batches they hand their rows to one engine, which does one call at a time, so
that each batch holds a worker's share of the rows and no more."""


@dataclass(frozen=True)
class Record:
    """What one run of the benchmark found."""

    machine: dict[str, Any]
    measured_at: str
    work: dict[str, Any]
    contests: Sequence[Contest]
    four_ways: FourWays
    overhead: Overhead

    @property
    def device(self) -> str:
        return str(self.machine["gpu"] or self.machine["cpu"])

    def as_json(self) -> dict[str, Any]:
        return {
            "machine": self.machine,
            "measured_at": self.measured_at,
            "work": self.work,
            "contests": [contest.as_json() for contest in self.contests],
            "four_ways": self.four_ways.as_json(),
            "overhead": self.overhead.as_json(),
            "baselines": [self._baseline(contest) for contest in self.contests],
        }

    def _baseline(self, contest: Contest) -> dict[str, Any]:
        """What `forge report` sets beside a stage's figures."""
        sequential = contest.sequential
        return {
            "name": f"sequential generate, {contest.dtype}, demo's first step",
            "seconds_per_interaction": sequential.seconds_each,
            "interactions": sequential.best.rows,
            "device": self.device,
            "measured_at": self.measured_at,
        }

    def write(self, folder: Path, name: str) -> None:
        folder.mkdir(exist_ok=True)
        (folder / f"{name}.json").write_text(json.dumps(self.as_json(), indent=2) + "\n")
        (folder / f"{name}.md").write_text(self.as_markdown())

    def as_markdown(self) -> str:
        """Short tables, each under what it says."""
        parts = [
            f"# Measured {self.measured_at}",
            self._describe(),
            *(self._contest(contest) for contest in self.contests),
            _LEGEND,
            "## Workers and batches",
            _WORKERS,
            self._four_ways(),
            "## What `dagster asset materialize` adds",
            self._overhead(),
        ]
        return "\n\n".join(parts) + "\n"

    def _describe(self) -> str:
        machine = self.machine
        names = ("python", "torch", "transformers", "vllm", "dagster")
        versions = [f"{name} {machine[name]}" for name in names if machine[name]]
        features = f" ({', '.join(machine['features'])})" if machine["features"] else ""
        work = self.work
        return (
            f"{machine['gpu'] or 'No GPU'}; {machine['cpu']}{features}, {machine['threads']} threads;"
            f" {', '.join(versions)}.\n"
            f"{work['rows']} prompts of the demo's first step, at most {work['new_tokens_at_most']} new"
            f" tokens, greedy, no grammar and no stop texts; the best of {work['repeats']} in turns."
            f" Sequential `generate` was timed over the first {work['sequential_rows']}."
        )

    def _contest(self, contest: Contest) -> str:
        has_gpu = self.machine["gpu"] is not None
        parts = [f"## {contest.dtype}", _speed(contest), _cost(contest, has_gpu), _rates(contest)]
        if not has_gpu:
            parts.append(_target(contest))
        parts += [f"{name} did not take part: {why}." for name, why in contest.absent.items()]
        return "\n\n".join(parts)

    def _four_ways(self) -> str:
        found = self.four_ways
        rows = [
            [way.name, way.workers, f"{way.seconds:.1f}", f"{found.times_sequential(way):.1f}"]
            for way in found.ways
        ]
        headings = ["", "workers", f"s for {found.rows}", "times sequential"]
        workers, batches, both = (found.times_sequential(way) for way in found.ways[1:])
        return (
            f"{table(headings, rows)}\n\nIn {found.dtype}: workers and batches together give"
            f" {both:.1f} times sequential; if their gains multiplied, it would be"
            f" {workers * batches:.1f}."
        )

    def _overhead(self) -> str:
        overhead = self.overhead
        return (
            f"{overhead.overhead:.1f} s: wall {overhead.wall:.1f} s, working {overhead.working:.1f} s,"
            f" import of torch and transformers {overhead.imports:.1f} s; the median of"
            f" {overhead.repeats}. The same command for one empty asset with one check takes"
            f" {overhead.bare:.1f} s in all."
        )


def _speed(contest: Contest) -> str:
    headings = ["", "rows", "s", "tokens/s", "times", "a minute", "valid", "valid/s", "equal texts"]
    rows = [
        [
            one.name,
            one.best.rows,
            f"{one.best.seconds:.1f}",
            f"{one.best.tokens_per_second:.1f}",
            f"{one.times_in_tokens(contest.sequential):.1f}",
            f"{60 / one.seconds_each:.0f}",
            one.best.valid,
            None if one.best.valid is None else f"{one.best.valid / one.best.seconds:.2f}",
            f"{one.equal_rows} of {one.compared_rows}",
        ]
        for one in contest.contestants
    ]
    return table(headings, rows)


def _cost(contest: Contest, has_gpu: bool) -> str:
    headings = ["", "start-up s", "loads", "tokens in", "out", "GPU busy"]
    headings += [f"{PROJECTED_ROWS} interactions s", "of the roofline"]
    rows = [
        [
            one.name,
            f"{one.start_up:.1f}",
            one.loads,
            one.best.prompt_tokens,
            one.best.output_tokens,
            _busy(one, has_gpu),
            f"{one.total:.0f}{' projected' if one.projected else ''}",
            f"{100 * one.share:.0f} %",
        ]
        for one in contest.contestants
    ]
    return table(headings, rows)


def _busy(figures: Figures, has_gpu: bool) -> str:
    if figures.best.gpu_busy is not None:
        return f"{100 * figures.best.gpu_busy:.0f} %"
    return "not read" if has_gpu else "no GPU"


def _rates(contest: Contest) -> str:
    return (
        f"Measured beside it: this device reads {contest.peaks.bandwidth / 1e9:,.1f} GB/s and"
        f" multiplies at {contest.peaks.flops / 1e12:,.2f} TFLOP/s in {contest.dtype}."
    )


def _target(contest: Contest) -> str:
    reached, target = contest.ours.times_in_tokens(contest.sequential), TARGETS[contest.dtype]
    word = "reached" if reached >= target else "missed"
    return f"Target: {target:g} times sequential in tokens/s; {word} with {reached:.1f}."

"""What the store must do, in plain Python: rows and events in lists, no SQL, no clock, no threads.

``Model`` answers each call as the store must and keeps the rows as they must be afterwards.
"""

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from resources.interaction import (
    SUSPECT_LOSSES,
    Claim,
    ErrorClass,
    Result,
    SkipKind,
    Status,
    StepState,
    Transition,
)
from resources.interaction_store import (
    CommitReport,
    IngestReport,
    PlannedStep,
    PlanReport,
    StageScope,
    SubjectRecord,
)
from tests.store.store_rows import ELSEWHERE, Event, verdict
from tests.store.workshop import DESCENDANTS, MODELS, NEEDS


def decide(states: Mapping[str, StepState]) -> dict[str, Transition]:
    """``verdict`` as the store asks for it: once for all, the store repeats it until nothing moves."""
    waiting = [n for n, s in states.items() if s.status is Status.PENDING and not s.ready]
    return {n: moves for n in waiting if (moves := verdict(n, states)) is not None}


def answer(interaction_id: int, token: int, outcome: str) -> Result:
    """One attempt's end."""
    if outcome in ("done", ELSEWHERE):
        output = f"{outcome} by {token}" if outcome == "done" else outcome
        return Result(interaction_id, token, Status.COMPLETED, output=output)
    error = ErrorClass.CONTRACT if outcome == "rejected" else ErrorClass.ENGINE
    status = Status.PENDING if outcome in ("again", "later") else Status(outcome)
    retry_in = 3600.0 if outcome == "later" else None
    output = f"bad, by {token}"
    return Result(
        interaction_id, token, status, output=output, error_class=error, retry_in=retry_in
    )


@dataclass(slots=True)
class Row:
    """One version of an interaction. ``due``, ``expired``: None without a retry time or lease."""

    key: str
    workflow: str
    step: str
    version: str
    content_hash: str
    ordinal: int
    ready: bool
    renewals: int = 0
    id: int = 0
    status: Status = Status.PENDING
    attempts: int = 0
    claims: int = 0
    losses: int = 0
    run_id: str | None = None
    token: int | None = None
    finished_token: int | None = None
    output: str | None = None
    error_class: str | None = None
    skip_kind: SkipKind | None = None
    due: bool | None = None
    expired: bool | None = None
    superseded: bool = False
    events: list[Event] = field(default_factory=list)

    @property
    def model(self) -> str:
        return MODELS[self.step]

    @property
    def state(self) -> StepState:
        return StepState(self.status, self.ready, self.output, None, self.skip_kind)

    @property
    def waits(self) -> bool:
        return self.status is Status.PENDING and not self.ready

    def note(self, kind: str, run_id: str | None = None, token: int | None = None) -> None:
        self.events.append((kind, run_id, token))


@dataclass(slots=True)
class RunState:
    state: str = "running"
    claimed: bool = False
    committed: bool = False


@dataclass(slots=True)
class Text:
    ordinal: int
    content_hash: str
    absent: bool = False


class Model:
    def __init__(self, versions: Mapping[str, Mapping[str, str]]) -> None:
        self.versions = {workflow: dict(steps) for workflow, steps in versions.items()}
        self.subjects: dict[str, Text] = {}
        self.rows: list[Row] = []
        self.runs: dict[tuple[str, str, str], RunState] = {}

    def live(self, scope: StageScope | None = None) -> list[Row]:
        rows = [row for row in self.rows if not row.superseded]
        return rows if scope is None else [row for row in rows if within(row, scope)]

    def held(self, run_id: str | None = None) -> list[Row]:
        running = [row for row in self.rows if row.status is Status.RUNNING]
        return [row for row in running if run_id in (None, row.run_id)]

    def family(self, key: str, workflow: str) -> dict[str, Row]:
        return {r.step: r for r in self.live() if (r.key, r.workflow) == (key, workflow)}

    def planned(self, workflow: str) -> list[PlannedStep]:
        versions = self.versions[workflow]
        return [PlannedStep(s, versions[s], MODELS[s], not NEEDS[s]) for s in versions]

    def ingest(self, records: Sequence[SubjectRecord]) -> IngestReport:
        first: dict[str, SubjectRecord] = {}
        for record in records:
            first.setdefault(record.key, record)
        if not first:
            return IngestReport(total=len(self.subjects))
        inserted = changed = superseded = 0
        for key, record in first.items():
            known = self.subjects.get(key)
            if known is None:
                self.subjects[key] = Text(len(self.subjects), record.content_hash)
                inserted += 1
            elif known.content_hash != record.content_hash:
                known.content_hash = record.content_hash
                changed += 1
                superseded += self._supersede([row for row in self.live() if row.key == key])
        for key, subject in self.subjects.items():
            subject.absent = key not in first
        return IngestReport(
            inserted=inserted,
            changed=changed,
            unchanged=len(first) - inserted - changed,
            duplicates=len(records) - len(first),
            absent=sum(subject.absent for subject in self.subjects.values()),
            total=len(self.subjects),
            superseded=superseded,
        )

    def plan(self, scope: StageScope) -> PlanReport:
        versions = self.versions[scope.workflow]
        outdated = [row for row in self.live(scope) if not self._is_current(row, versions)]
        superseded = self._supersede(outdated)
        touched = {row.key for row in outdated}
        in_work = [row for row in self.live(scope) if row.status is Status.RUNNING]
        self.give_back([row for row in in_work if row.key in touched], lost=False)
        created = 0
        keys = [k for k, s in self.subjects.items() if scope.first <= s.ordinal < scope.end]
        for key in keys:
            missing = versions.keys() - self.family(key, scope.workflow).keys()
            for step in missing:
                self._create(key, scope.workflow, step, ready=not NEEDS[step])
            created += len(missing)
        return PlanReport(created, superseded, *self._move((key, scope.workflow) for key in keys))

    def claimable(
        self, scope: StageScope, model: str, limit: int, steps: Collection[str], suspects: bool
    ) -> list[Row]:
        """The rows that a claim must give, in its order."""
        rows = [
            row
            for row in self.live(scope)
            if row.status is Status.PENDING
            and row.ready
            and row.due is not False
            and row.model == model
            and row.step in steps
            and (row.losses >= SUSPECT_LOSSES) is suspects
        ]
        rows.sort(key=lambda row: (row.losses if suspects else 0, row.ordinal, row.id))
        return sorted(rows[:limit], key=lambda row: (row.ordinal, row.id))

    def claim(self, scope: StageScope, run_id: str, rows: Sequence[Row], made: list[Claim]) -> None:
        for row, claim in zip(rows, made, strict=True):
            assert (claim.attempt, claim.renewals) == (row.attempts, row.renewals)
            assert claim.losses == row.losses
            row.status, row.run_id, row.token = Status.RUNNING, run_id, claim.token
            row.claims, row.due, row.expired = row.claims + 1, None, False
            row.note("claimed", run_id, claim.token)
        run = self.runs.get((run_id, scope.workflow, scope.partition))
        if rows and run is not None:
            run.claimed = True

    def commit(
        self, run_id: str, results: Sequence[Result], scopes: Sequence[StageScope]
    ) -> CommitReport:
        """A result counts exactly when its token is its row's, or the one it last ended with."""
        known = {row.id: row for row in self.rows}
        before = {row.id: (row.token, row.finished_token) for row in self.rows}
        accepted: dict[int, Result] = {}
        refused: list[Result] = []
        written: list[Result] = []
        for result in results:
            token, finished = before.get(result.interaction_id, (None, None))
            if result.token == finished:
                written.append(result)
            elif result.token == token and result.interaction_id not in accepted:
                accepted[result.interaction_id] = result
                written.append(result)
            else:
                refused.append(result)
        for id_, result in accepted.items():
            _end(known[id_], result)
        ready, skipped = self._move({(known[id_].key, known[id_].workflow) for id_ in accepted})
        for result in refused:
            if row := known.get(result.interaction_id):
                row.note("refused", run_id, result.token)
        for scope in scopes:
            run = self.runs.get((run_id, scope.workflow, scope.partition))
            if run is not None and any(within(known[id_], scope) for id_ in accepted):
                run.committed = True
        return CommitReport(
            committed=len(written),
            retried=sum(result.status is Status.PENDING for result in written),
            refused=tuple(result.interaction_id for result in refused),
            skipped=skipped,
            newly_ready=ready,
        )

    def give_back(self, rows: Sequence[Row], *, lost: bool) -> int:
        for row in rows:
            row.note("reclaimed", row.run_id, row.token)
            row.status, row.token, row.expired = Status.PENDING, None, None
            row.losses += lost
        return len(rows)

    def retry(self, scope: StageScope, status: Status, step: str | None) -> int:
        chosen = {
            (row.key, row.step): row.renewals + (status is Status.REJECTED)
            for row in self.live(scope)
            if row.status is status and step in (None, row.step)
        }
        below = {(key, child) for key, parent in chosen for child in DESCENDANTS[parent]}
        gone = [row for row in self.live(scope) if (row.key, row.step) in chosen.keys() | below]
        self._supersede(gone)
        for row in gone:
            place = (row.key, row.step)
            ready, renewals = place not in below, chosen.get(place, 0)
            self._create(row.key, row.workflow, row.step, ready=ready, renewals=renewals)
        return len(gone)

    def counts(self, scope: StageScope) -> dict[str, int]:
        """What ``stage_counts`` must say of a stage."""
        versions = self.versions[scope.workflow]
        subjects = [s for s in self.subjects.values() if scope.first <= s.ordinal < scope.end]
        live = self.live(scope)
        current = [row for row in live if self._is_current(row, versions)]
        found = Counter(row.status for row in current)
        ended = Counter(row.key for row in current if row.status.final)
        return {status.value: found[status] for status in Status} | {
            "subjects": len(subjects),
            "missing": len(subjects) * len(versions) - len(current),
            "stale": len(live) - len(current),
            "finished_subjects": sum(n == len(versions) for n in ended.values()),
        }

    def _is_current(self, row: Row, versions: Mapping[str, str]) -> bool:
        text = self.subjects[row.key].content_hash
        return (versions.get(row.step), text) == (row.version, row.content_hash)

    def _create(
        self, key: str, workflow: str, step: str, *, ready: bool, renewals: int = 0
    ) -> None:
        subject, version = self.subjects[key], self.versions[workflow][step]
        place = (key, workflow, step, version, subject.content_hash, subject.ordinal)
        self.rows.append(Row(*place, ready, renewals))

    def _supersede(self, rows: Sequence[Row]) -> int:
        for row in rows:
            row.superseded = True
            row.token = row.due = row.expired = None
            if row.status is Status.RUNNING:
                row.status = Status.PENDING
            row.note("superseded", row.run_id)
        return len(rows)

    def _move(self, places: "Collection[tuple[str, str]] | Iterator[tuple[str, str]]") -> list[int]:
        """Newly ready and skipped, parents before children."""
        moved = [0, 0]
        for key, workflow in places:
            family = self.family(key, workflow)
            for step in NEEDS:
                row = family.get(step)
                if row is None or not row.waits:
                    continue
                move = verdict(step, {name: other.state for name, other in family.items()})
                if move is None:
                    continue
                row.ready, row.skip_kind = move.ready, move.skip_kind
                if not move.ready:
                    row.status = Status.SKIPPED
                    row.note("skipped")
                moved[not move.ready] += 1
        return moved


def _end(row: Row, result: Result) -> None:
    again = result.status is Status.PENDING
    row.note("retried" if again else result.status.value, row.run_id, result.token)
    row.status, row.token, row.expired = result.status, None, None
    row.finished_token, row.attempts, row.losses = result.token, row.attempts + 1, 0
    row.output = None if again else result.output
    row.error_class = result.error_class
    row.due = None if result.retry_in is None else result.retry_in <= 0


def within(row: Row, scope: StageScope) -> bool:
    return row.workflow == scope.workflow and scope.first <= row.ordinal < scope.end

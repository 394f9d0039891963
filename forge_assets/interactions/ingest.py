"""Reads the configured source into the store and says what was passed over."""

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field

from forge_assets.project import Project, naming_forge_yaml
from forge_assets.schema_errors import Location, did_you_mean
from forge_assets.workflow.plan import subject_fields
from forge_assets.workflow.spec import Workflow
from forge_assets.workflow.template import placeholders
from resources.interaction_store import IngestReport, InteractionStore
from resources.subject_record import BadRecord, SubjectRecord
from resources.subject_sources import read_records

_SHOWN = 20


@dataclass
class Ingestion:
    """``report`` is what the store changed; ``bad`` holds the first few records passed over."""

    report: IngestReport = field(default_factory=IngestReport)
    bad: list[BadRecord] = field(default_factory=list)
    bad_count: int = 0


def ingest_subjects(
    project: Project, store: InteractionStore, say: Callable[[str], None]
) -> Ingestion:
    """Idempotent: stable keys, ordinals only appended.

    ConfigurationError, and nothing changed, when no record is valid or when a prompt names a field
    that none of them has.
    """
    ingestion = Ingestion()
    dataset = project.config.dataset
    fields = set(store.field_names(dataset))

    def valid_records() -> Iterator[SubjectRecord]:
        for record in read_records(project.config.subjects):
            if isinstance(record, SubjectRecord):
                fields.update(record.fields)
                yield record
                continue
            ingestion.bad_count += 1
            if len(ingestion.bad) < _SHOWN:
                ingestion.bad.append(record)
                say(f"passed over {record.where}: {record.reason}")
        # Before the store's transaction ends.
        for workflow in project.workflows:
            check_fields(workflow, fields)

    with naming_forge_yaml(project.config):
        ingestion.report = store.ingest(dataset, valid_records())
    store.sync_stages(dataset, project.stage_ranges)
    _tell_what_is_passed_over(ingestion, say)
    _tell_what_is_different(ingestion.report, say)
    last = project.stages[-1]
    if ingestion.report.total > last.end:
        say(
            f"{ingestion.report.total} subjects exceed the last partition {last.key} (ends at"
            f" {last.end}); raise batches.count in forge.yaml"
        )
    return ingestion


def _tell_what_is_passed_over(ingestion: Ingestion, say: Callable[[str], None]) -> None:
    unnamed = ingestion.bad_count - len(ingestion.bad)
    if unnamed:
        say(f"passed over {unnamed:,} more records: {ingestion.bad_count:,} in all")
    report = ingestion.report
    if report.duplicates:
        whose = (
            "record passed over: its" if report.duplicates == 1 else "records passed over: their"
        )
        say(
            f"{report.duplicates:,} {whose} key came before (the first: {report.first_duplicate!r})"
        )


def _tell_what_is_different(report: IngestReport, say: Callable[[str], None]) -> None:
    if report.superseded:
        changed = (
            "1 subject has changed: what was made of it"
            if report.changed == 1
            else f"{report.changed:,} subjects have changed: what was made of them"
        )
        say(f"{changed} is made anew")
    if report.absent:
        say(
            f"{report.absent:,} of the subjects of before are no longer in the source: they stay in their"
            " stages, are worked on and count like the others"
        )


@dataclass(frozen=True)
class SourceFacts:
    """How many subjects there are, and the fields that any of them has.

    ``as_last_read``: known from the store; the source may have changed since.
    """

    subjects: int
    fields: frozenset[str]
    as_last_read: bool


def look_at_subjects(project: Project, store: InteractionStore) -> SourceFacts:
    """What the store holds of the source; read from the source itself when it was never ingested."""
    dataset = project.config.dataset
    count = store.subject_count(dataset)
    if count:
        return SourceFacts(count, frozenset(store.field_names(dataset)), as_last_read=True)
    keys: set[str] = set()
    fields: set[str] = set()
    with naming_forge_yaml(project.config):
        for record in read_records(project.config.subjects):
            if isinstance(record, SubjectRecord):
                keys.add(record.key)
                fields.update(record.fields)
    return SourceFacts(len(keys), frozenset(fields), as_last_read=False)


def check_fields(workflow: Workflow, known: Collection[str]) -> None:
    """ConfigurationError for a template field that no subject has."""
    unknown = sorted(subject_fields(workflow) - set(known))
    if unknown:
        raise workflow.document.error(
            _place(workflow, unknown[0]),
            f"{{{unknown[0]}}} names a field that no subject has"
            f"{did_you_mean(unknown[0], sorted(known))}; the subjects have:"
            f" {', '.join(sorted(known))}",
        )


def _place(workflow: Workflow, name: str) -> Location:
    """The first prompt that names the field."""
    for position, step in enumerate(workflow.steps):
        for part, text in (("prompt", step.prompt), ("system", step.system)):
            if f"{{{name}}}" in [placeholder.text for placeholder in placeholders(text or "")]:
                return ("steps", position, part)
    raise AssertionError(f"{name} stands in a prompt")

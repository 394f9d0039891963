"""Everything about one subject or one interaction, as Markdown and as JSON."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from datetime import datetime
from itertools import groupby
from typing import Any

from forge_assets.markdown import code, fence, listing
from resources.store_types import Interaction, InteractionEvent, SubjectTrace, SubjectVersion

_BLOCKS = ("error_message", "output", "reason")  # of an event: foreign text, often long

_END = "error_message"
_ABOVE = {"completed": _END, "rejected": _END, "failed": _END, "skipped": "reason"}
"""By the kind of a final event: the text of it that stands in the row's own lines."""


def subject_markdown(trace: SubjectTrace) -> str:
    """The subject, then by workflow each step as it stands, then what was superseded."""
    parts = [
        f"# Subject {code(trace.key)}",
        listing(
            [
                ("dataset", trace.dataset),
                ("ordinal", trace.ordinal),
                ("content hash", trace.content_hash),
                ("first seen", _moment(trace.created_at)),
                ("last changed", _moment(trace.updated_at)),
                ("missing from the source since", _moment(trace.absent_since)),
            ]
        ),
        fence(_json(trace.fields), "json"),
        *[_earlier(version) for version in trace.earlier],
    ]
    rows_in_order = sorted(trace.interactions, key=lambda row: (row.workflow, row.id))
    for workflow, rows in groupby(rows_in_order, key=lambda row: row.workflow):
        parts += _workflow(workflow, list(rows), trace.content_hash)
    if not trace.interactions:
        parts.append("No interaction yet: no stage that holds this subject was planned.")
    return "\n\n".join(parts) + "\n"


def interaction_markdown(interaction: Interaction) -> str:
    """One interaction on its own."""
    owner = listing(
        [
            ("dataset", interaction.dataset),
            ("workflow", interaction.workflow),
            ("stage", interaction.partition),
            ("ordinal", interaction.ordinal),
        ]
    )
    head = [f"# Interaction {interaction.id} of subject {code(interaction.subject_key)}", owner]
    return "\n\n".join([*head, *_interaction(interaction)]) + "\n"


def trace_json(trace: SubjectTrace | Interaction) -> dict[str, Any]:
    """The same as data, every text as it is."""
    plain: dict[str, Any] = json.loads(_json(asdict(trace)))
    return plain


def _earlier(version: SubjectVersion) -> str:
    title = f"Until {_moment(version.replaced_at)} (content hash {version.content_hash}):"
    return f"{title}\n\n{fence(_json(version.fields), 'json')}"


def _workflow(workflow: str, rows: list[Interaction], content_hash: str) -> list[str]:
    current = [row for row in rows if row.superseded_at is None]
    superseded = [row for row in rows if row.superseded_at is not None]
    parts = [f"## Workflow {workflow}"]
    for row in current:
        parts += _interaction(row, stale=row.content_hash != content_hash)
    if superseded:
        parts.append(f"## Superseded in {workflow}")
        for row in superseded:
            parts += _interaction(row)
    return parts


def _interaction(row: Interaction, stale: bool = False) -> list[str]:
    parts = [
        f"### {row.step}: {row.status} (interaction {row.id})",
        listing([pair for pair in _facts(row, stale) if pair[1] is not None]),
    ]
    if row.error_message:
        parts += ["Reason:", fence(row.error_message)]
    if row.skip_reason:
        parts += ["Skipped:", fence(row.skip_reason)]
    for title, text in (("System", row.system), ("Prompt", row.prompt), ("Output", row.output)):
        if text is not None:
            parts += [f"{title}:", fence(text)]
    if row.parsed is not None:
        parts += ["Parsed:", fence(_json(row.parsed), "json")]
    if row.provenance:
        parts += ["Provenance:", fence(_json(row.provenance), "json")]
    if row.events:
        parts += ["Events:", "\n".join(_event(event) for event in row.events)]
        parts += [block for event in row.events for block in _event_blocks(event)]
    return parts


def _facts(row: Interaction, stale: bool) -> list[tuple[str, object]]:
    return [
        ("model", row.model),
        ("verdict", row.error_class or row.skip_kind),
        ("step version", row.version),
        ("content hash", f"{row.content_hash}{' (the subject has changed since)' * stale}"),
        ("attempts", row.attempts),
        ("claims", row.claims),
        ("run", row.run_id),
        ("tokens", _tokens(row)),
        ("seconds", None if row.seconds is None else f"{row.seconds:.3f}"),
        ("created", _moment(row.created_at)),
        ("claimed", _moment(row.claimed_at)),
        ("tried again after", _moment(row.retry_at)),
        ("finished", _moment(row.finished_at)),
        ("superseded", _moment(row.superseded_at)),
    ]


def _tokens(row: Interaction) -> str | None:
    if not row.prompt_tokens and not row.output_tokens:
        return None
    return f"{row.prompt_tokens} of prompt, {row.output_tokens} of output, over all attempts"


def _event(event: InteractionEvent) -> str:
    facts = [f"attempt {event.attempt + 1}"] if event.attempt is not None else []
    facts += [f"run {event.run_id}"] if event.run_id else []
    facts += [f"token {event.token}"] if event.token is not None else []
    small = {name: value for name, value in event.detail.items() if name not in _BLOCKS}
    facts += [code(_json(small, indent=None))] if small else []
    return f"- {_moment(event.at)} {event.kind}" + "".join(f", {fact}" for fact in facts)


def _event_blocks(event: InteractionEvent) -> list[str]:
    """The long texts of an event under its time; those of a final one stand above already."""
    above = _ABOVE.get(event.kind)
    blocks = []
    for name in _BLOCKS:
        if event.detail.get(name) and name != above:
            title = f"{event.kind} {_moment(event.at)}, {name.replace('_', ' ')}:"
            blocks += [title, fence(str(event.detail[name]))]
    return blocks


def _moment(at: datetime | None) -> str | None:
    return None if at is None else at.isoformat(sep=" ", timespec="milliseconds")


def _json(value: Mapping[str, Any] | Any, indent: int | None = 2) -> str:
    return json.dumps(value, ensure_ascii=False, indent=indent, default=_plain)


def _plain(value: object) -> object:
    return value.isoformat() if isinstance(value, datetime) else str(value)

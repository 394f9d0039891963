"""Everything that is known of one interaction or one subject."""

from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSONB

from resources import store_schema as schema
from resources.interaction import ErrorClass, SkipKind, Status
from resources.store_base import StoreBase
from resources.store_types import (
    Interaction,
    InteractionEvent,
    SubjectTrace,
    SubjectVersion,
)

_INTERACTIONS = """
SELECT i.*, s.key AS subject_key, st.partition FROM forge.interactions i
JOIN forge.subjects s ON s.id = i.subject_id
LEFT JOIN forge.stages st ON st.dataset = i.dataset
    AND i.ordinal >= st.ordinal_from AND i.ordinal < st.ordinal_to
WHERE {where} ORDER BY i.workflow, i.id"""


class TraceReads(StoreBase):
    def get_interaction_by_id(self, interaction_id: int) -> Interaction | None:
        with self._engine.connect() as connection:
            found = _interactions(connection, "i.id = :id", {"id": interaction_id})
        return found[0] if found else None

    def trace(self, dataset: str, workflow: str | None, subject_key: str) -> SubjectTrace | None:
        """A subject, what its text was before, and all its interactions with their events.

        Superseded rows are included; ``workflow`` None takes all workflows.
        """
        table, old = schema.subjects, schema.subject_versions
        query = sa.select(table).where(table.c.dataset == dataset, table.c.key == subject_key)
        with self._engine.connect() as connection:
            subject = connection.execute(query).one_or_none()
            if subject is None:
                return None
            versions = connection.execute(
                sa.select(old.c.content_hash, old.c.fields, old.c.replaced_at)
                .where(old.c.subject_id == subject.id)
                .order_by(old.c.id)
            ).mappings()
            where, values = "i.subject_id = :id", {"id": subject.id, "workflow": workflow}
            if workflow is not None:
                where += " AND i.workflow = :workflow"
            return SubjectTrace(
                subject_id=subject.id,
                dataset=subject.dataset,
                key=subject.key,
                ordinal=subject.ordinal,
                fields=subject.fields,
                content_hash=subject.content_hash,
                created_at=subject.created_at,
                updated_at=subject.updated_at,
                absent_since=subject.absent_since,
                earlier=tuple(SubjectVersion(**row) for row in versions),
                interactions=tuple(_interactions(connection, where, values)),
            )


def _interactions(
    connection: sa.Connection, where: str, values: Mapping[str, Any]
) -> list[Interaction]:
    query = sa.text(_INTERACTIONS.format(where=where)).columns(parsed=JSONB, provenance=JSONB)
    rows = connection.execute(query, values).mappings().all()
    events = _events(connection, [row["id"] for row in rows])
    names = Interaction.__dataclass_fields__.keys() - {"events"}
    return [
        Interaction(
            **{
                **{name: row[name] for name in names},
                "status": Status(row["status"]),
                "error_class": ErrorClass(row["error_class"]) if row["error_class"] else None,
                "skip_kind": SkipKind(row["skip_kind"]) if row["skip_kind"] else None,
            },
            events=tuple(events.get(row["id"], ())),
        )
        for row in rows
    ]


def _events(connection: sa.Connection, ids: list[int]) -> dict[int, list[InteractionEvent]]:
    table = schema.interaction_events
    query = sa.select(table).where(table.c.interaction_id.in_(ids)).order_by(table.c.id)
    events: dict[int, list[InteractionEvent]] = {}
    for row in connection.execute(query).mappings():
        event = InteractionEvent(**{name: row[name] for name in row if name != "interaction_id"})
        events.setdefault(row["interaction_id"], []).append(event)
    return events

"""Our own register of runs: who works on a stage, since when, and how it ended."""

from collections.abc import Collection
from typing import Literal

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from resources import store_schema as schema
from resources.store_base import StoreBase
from resources.store_types import ModelLoad, RunRow, StageScope
from resources.worker_ids import sql_run_of

EndState = Literal["finished", "cut_short", "failed", "dead"]


class RunRegistry(StoreBase):
    """A run may hold several workflows of one partition: one row each."""

    def register_run(self, run_id: str, scope: StageScope, *, pid: int, host: str) -> None:
        """Note that a run works on a stage; registered again (a step retried), it runs again."""
        row = insert(schema.runs).values(
            run_id=run_id,
            workflow=scope.workflow,
            partition=scope.partition,
            dataset=scope.dataset,
            ordinal_from=scope.first,
            ordinal_to=scope.end,
            pid=pid,
            host=host,
        )
        again = {"pid": pid, "host": host, "state": "running", "ended_at": None, "reason": None}
        statement = row.on_conflict_do_update(constraint=schema.runs.primary_key, set_=again)
        with self._engine.begin() as connection:
            connection.execute(statement)

    def end_run(
        self, run_id: str, scope: StageScope, state: EndState, reason: str | None = None
    ) -> bool:
        """Close the rows of a run, and of its workers, of a stage; or of the one worker that is named.
        False when they had ended: the first ending stays."""
        mine = sa.literal_column(sql_run_of("run_id")) == run_id
        statement = (
            sa.update(schema.runs)
            .where(
                sa.or_(schema.runs.c.run_id == run_id, mine),
                schema.runs.c.workflow == scope.workflow,
                schema.runs.c.partition == scope.partition,
                schema.runs.c.ended_at.is_(None),
            )
            .values(state=state, reason=reason, ended_at=sa.func.clock_timestamp())
        )
        with self._engine.begin() as connection:
            return connection.execute(statement).rowcount > 0

    def runs(self, scope: StageScope, states: Collection[str] | None = None) -> list[RunRow]:
        """The runs of a stage, newest first."""
        table = schema.runs.c
        query = (
            sa.select(*(table[name] for name in RunRow.__dataclass_fields__))
            .where(
                table.dataset == scope.dataset,
                table.workflow == scope.workflow,
                table.partition == scope.partition,
            )
            .order_by(table.registered_at.desc(), table.run_id)
        )
        if states is not None:
            query = query.where(table.state.in_(list(states)))
        with self._engine.connect() as connection:
            return [RunRow(**row) for row in connection.execute(query).mappings()]

    def open_rows(self, run_id: str) -> list[RunRow]:
        """The stages that a run has not ended yet."""
        table = schema.runs.c
        query = sa.select(*(table[name] for name in RunRow.__dataclass_fields__)).where(
            table.run_id == run_id, table.ended_at.is_(None)
        )
        with self._engine.connect() as connection:
            return [RunRow(**row) for row in connection.execute(query).mappings()]

    def add_load(self, run_id: str, model: str, seconds: float, bytes: int, tier: str) -> None:
        """Note that a run brought a model into memory (``tier``: from where)."""
        row = {"run_id": run_id, "model": model, "seconds": seconds, "bytes": bytes, "tier": tier}
        with self._engine.begin() as connection:
            connection.execute(sa.insert(schema.model_loads), row)

    def loads(self, run_ids: Collection[str]) -> list[ModelLoad]:
        """The model loads of some runs, oldest first."""
        table = schema.model_loads.c
        query = (
            sa.select(*(table[name] for name in ModelLoad.__dataclass_fields__))
            .where(table.run_id.in_(list(run_ids)))
            .order_by(table.id)
        )
        with self._engine.connect() as connection:
            return [ModelLoad(**row) for row in connection.execute(query).mappings()]

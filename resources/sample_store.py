"""Readings of the machine taken while runs work."""

from collections.abc import Collection, Sequence
from dataclasses import asdict

import sqlalchemy as sa

from resources import store_schema as schema
from resources.store_base import StoreBase
from resources.store_types import ResourceSample


class SampleStore(StoreBase):
    def add_samples(self, samples: Sequence[ResourceSample]) -> None:
        if not samples:
            return
        rows = [asdict(sample) for sample in samples]
        for row in rows:
            if row["at"] is None:
                row["at"] = sa.func.clock_timestamp()
        with self._engine.begin() as connection:
            connection.execute(sa.insert(schema.resource_samples).values(rows))

    def samples(self, run_ids: Collection[str]) -> list[ResourceSample]:
        """The samples of some runs, oldest first."""
        table = schema.resource_samples.c
        query = (
            sa.select(*(table[name] for name in ResourceSample.__dataclass_fields__))
            .where(table.run_id.in_(list(run_ids)))
            .order_by(table.at, table.id)
        )
        with self._engine.connect() as connection:
            rows = connection.execute(query).mappings().all()
        return [ResourceSample(**{**row, "gpus": tuple(row["gpus"])}) for row in rows]

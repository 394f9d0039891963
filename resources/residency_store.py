"""What residencies of models made and took, kept for predictions and for the report."""

from collections.abc import Collection
from dataclasses import asdict

import sqlalchemy as sa

from resources import store_schema as schema
from resources.store_base import StoreBase
from resources.store_types import Residency

_FIELDS = tuple(Residency.__dataclass_fields__)


class ResidencyStore(StoreBase):
    def add_residency(self, residency: Residency) -> None:
        with self._engine.begin() as connection:
            connection.execute(sa.insert(schema.residencies), asdict(residency))

    def residencies_of_model(
        self, definition: str, device: str, engine: str, limit: int = 5
    ) -> list[Residency]:
        """The latest that answered anything, newest first."""
        table = schema.residencies.c
        return self._residencies(
            sa.select(*(table[name] for name in _FIELDS))
            .where(
                table.definition == definition,
                table.device == device,
                table.engine == engine,
                table.interactions > 0,
            )
            .order_by(table.id.desc())
            .limit(limit)
        )

    def residencies_of_runs(self, run_ids: Collection[str]) -> list[Residency]:
        """Oldest first."""
        table = schema.residencies.c
        return self._residencies(
            sa.select(*(table[name] for name in _FIELDS))
            .where(table.run_id.in_(list(run_ids)))
            .order_by(table.id)
        )

    def _residencies(self, query: "sa.Select[tuple[object, ...]]") -> list[Residency]:
        with self._engine.connect() as connection:
            return [Residency(**row) for row in connection.execute(query).mappings()]

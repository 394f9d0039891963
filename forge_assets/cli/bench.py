"""`forge bench`: measures this machine."""

import json
import sys

from forge_assets.cli.open import out


def measure(as_json: bool) -> int:
    """Progress goes to stderr, so that ``--json`` is alone on standard output."""
    from forge_assets.bench.benchmark import run_bench

    result = run_bench(lambda line: print(line, file=sys.stderr, flush=True))  # noqa: T201
    if as_json:
        out(json.dumps(result, indent=2))
    return 0

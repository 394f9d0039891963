"""`forge bench`: measures this machine."""

import json

from forge_assets.cli.open import out


def measure(as_json: bool) -> int:
    from forge_assets.bench import run_bench

    result = run_bench()
    if as_json:
        out(json.dumps(result, indent=2))
    return 0

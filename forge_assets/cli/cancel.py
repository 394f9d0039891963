"""`forge cancel`: end a launch, wherever it has got to."""

import json
import time
from typing import Any

from forge_assets.cli.open import out, tell
from forge_assets.launches.cancel import cancel
from forge_assets.launches.clouds import open_clouds
from forge_assets.project import load_project
from resources.launch_store import Launch, LaunchStore
from resources.locks import LockSpace, is_held


def run(name: str, as_json: bool) -> int:
    clouds = open_clouds(load_project().config.cloud)
    from resources.database import open_engine

    engine = open_engine()

    def held(launch: Launch) -> bool:
        with engine.connect() as connection:
            lease = is_held(connection, LockSpace.LAUNCH, f"{launch.project}/{launch.job}")
        return lease and launch.state == "intended"

    found = cancel(name, clouds, LaunchStore(engine), held, time.sleep, tell)
    told: dict[str, Any] = {
        "launch": str(found.launch.id) if found.launch else None,
        "job_name": found.job or None,
        "job_state": found.state or None,
        "cancelled": found.done,
    }
    out(json.dumps(told) if as_json else found.sentence)
    return 0 if found.done else 1

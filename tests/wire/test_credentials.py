"""Who asks, and for which project: one sentence when nobody or none."""

import subprocess
import sys
from pathlib import Path

import pytest

from resources.cloud.credentials import ENDPOINTS, access
from resources.errors import ConfigurationError

FAKE = "127.0.0.1:4000"
ALL_FAKE = dict.fromkeys(ENDPOINTS, FAKE)


def test_a_fake_needs_no_credentials() -> None:
    made = access("demo", ALL_FAKE)
    assert (made.project, made.credentials, dict(made.fakes)) == ("demo", None, ALL_FAKE)


def test_only_the_apis_that_are_asked_for_need_them() -> None:
    some = {"VERTEX_EMULATOR_HOST": FAKE}
    assert access("demo", some, ["VERTEX_EMULATOR_HOST"]).credentials is None
    with pytest.raises(ConfigurationError):
        access("demo", some)


def test_without_credentials_one_sentence_tells_the_fix() -> None:
    with pytest.raises(ConfigurationError) as caught:
        access("demo", {})
    assert caught.value.exit_code == 2
    assert "run `gcloud auth application-default login`" in str(caught.value)


def test_a_key_file_that_is_none_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = tmp_path / "key.json"
    key.write_text("{")
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(key))
    with pytest.raises(ConfigurationError, match=r"no Google credentials \(.*key\.json"):
        access("demo", {})


def test_a_project_comes_from_the_file_then_from_the_environment() -> None:
    environment = {**ALL_FAKE, "GOOGLE_CLOUD_PROJECT": "mine"}
    assert access("demo", environment).project == "demo"
    assert access(None, environment).project == "mine"
    with pytest.raises(ConfigurationError, match=r"no Google Cloud project: set cloud\.project"):
        access(None, ALL_FAKE)


@pytest.mark.parametrize("address", ["http://127.0.0.1:4000", "127.0.0.1", "a b:1"])
def test_an_endpoint_is_host_and_port(address: str) -> None:
    with pytest.raises(ConfigurationError, match=r"VERTEX_EMULATOR_HOST is .* set it to host:port"):
        access("demo", {**ALL_FAKE, "VERTEX_EMULATOR_HOST": address})


def test_no_module_brings_google_when_it_is_imported() -> None:
    folder = Path(access.__code__.co_filename).parent
    names = [f"resources.cloud.{file.stem}" for file in folder.glob("*.py")]
    program = f"import sys, {', '.join(names)}\n"
    # The packages google and google.cloud are there in every process: a .pth file makes them.
    heavy = ("google.api_core", "google.auth", "google.protobuf", "grpc", "proto")
    program += f"print([name for name in sys.modules if name.startswith({heavy})])"
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    assert ended.stdout.strip() == b"[]"

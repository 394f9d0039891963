"""deploy/compose.yaml: structure, values from the environment, and commands that are command lines."""

import os
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
import pytest
import sqlalchemy as sa
import yaml
from dagster._core.workspace.load_target import WorkspaceFileTarget

from resources.database import normalised
from tests.deploy.images import stages
from tests.deploy.programs import parse
from tests.pipeline.project import ROOT

FOLDER = ROOT / "deploy"
SECRET = {"POSTGRES_PASSWORD": "s3cret", "FORGE_PROJECT": "../mine"}
OURS = ("code", "webserver", "daemon")
each_of_ours = pytest.mark.parametrize("name", OURS)


class MissingError(Exception):
    """A value that compose would refuse to start without."""


def interpolated(text: str, environment: Mapping[str, str]) -> str:
    """``text`` with its ${NAME}, ${NAME-x}, ${NAME:-x} and ${NAME:?x} as compose puts them in."""
    out, rest = "", text
    while (start := rest.find("${")) >= 0:
        depth, end = 1, start + 2
        while depth:
            depth += {"{": 1, "}": -1}.get(rest[end], 0)
            end += 1
        out += rest[:start] + _value(rest[start + 2 : end - 1], environment)
        rest = rest[end:]
    return out + rest


def _value(inner: str, environment: Mapping[str, str]) -> str:
    found = re.match(r"(\w+)(:?[-?])?(.*)$", inner, re.S)
    assert found, inner
    name, operator, given = found.groups()
    held = environment.get(name)
    if operator is None:
        return held or ""
    if held is not None and (held or not operator.startswith(":")):
        return held
    if operator.endswith("?"):
        raise MissingError(f"{name}: {given}")
    return interpolated(given, environment)


def composed(environment: Mapping[str, str], file: str = "compose.yaml") -> dict[str, Any]:
    return dict(_put(yaml.safe_load((FOLDER / file).read_text()), environment))


def _put(node: Any, environment: Mapping[str, str]) -> Any:
    if isinstance(node, str):
        return interpolated(node, environment)
    if isinstance(node, list):
        return [_put(item, environment) for item in node]
    if isinstance(node, dict):
        return {key: _put(value, environment) for key, value in node.items()}
    return node


def services(**environment: str) -> dict[str, dict[str, Any]]:
    return dict(composed(SECRET | environment)["services"])


def test_a_database_the_code_the_ui_and_the_daemon() -> None:
    assert set(services()) == {"postgres", *OURS}


@pytest.mark.parametrize("missing", ["POSTGRES_PASSWORD", "FORGE_PROJECT"])
def test_what_has_no_sensible_default_is_asked_for(missing: str) -> None:
    given = {name: value for name, value in SECRET.items() if name != missing}
    with pytest.raises(MissingError, match=rf"^{missing}: set it in deploy/\.env"):
        composed(given)


def test_with_a_database_elsewhere_no_password_is_asked_for() -> None:
    url = "postgresql://ada:x@db.example.com:5432/forge"
    found = composed({"FORGE_PROJECT": "../mine", "FORGE_DATABASE_URL": url})["services"]
    for name in OURS:
        assert found[name]["environment"]["FORGE_DATABASE_URL"] == url
        # The database's own service is left out with its profile, and then not waited for.
        assert found[name]["depends_on"]["postgres"]["required"] is False
    assert found["postgres"]["profiles"] == ["postgres"]


def test_no_secret_stands_in_the_files() -> None:
    for path in (*FOLDER.glob("compose*.yaml"), FOLDER / "env.example"):
        for line in path.read_text().splitlines():
            assert not re.search(r"(PASSWORD|API_KEY|TOKEN|SECRET)\w*['\"]?[:=] *['\"]?\w", line), (
                line
            )
    ignored = subprocess.run(
        ["git", "check-ignore", "--quiet", "deploy/.env"], cwd=ROOT, check=False
    )
    assert ignored.returncode == 0


def test_the_database_is_the_one_that_the_url_names() -> None:
    found = services()
    database = found["postgres"]
    url = normalised(found["code"]["environment"]["FORGE_DATABASE_URL"])
    assert (url.host, url.port) == ("postgres", 5432)
    environment = database["environment"]
    assert (url.username, url.database, url.password) == (
        environment["POSTGRES_USER"],
        environment["POSTGRES_DB"],
        environment["POSTGRES_PASSWORD"],
    )
    image, version = database["image"].split(":")
    assert image == "postgres"
    # The major version of the embedded server, so that a dump of one is read by the other.
    from resources.postgres_instance import MAJOR_VERSION

    assert re.fullmatch(rf"{MAJOR_VERSION}\.\d+-\w+", version)
    (volume,) = database["volumes"]
    assert volume.split(":")[1] == "/var/lib/postgresql"


def test_the_settings_of_the_database_are_postgresqls(postgres_url: str) -> None:
    program, *options = services()["postgres"]["command"]
    assert program == "postgres"
    settings = dict(option.split("=") for option in options if option != "-c")
    engine = sa.create_engine(postgres_url)
    with engine.connect() as connection:
        for name, value in settings.items():
            kept = sa.text(
                "SELECT min_val::bigint, max_val::bigint FROM pg_settings WHERE name = :n"
            )
            low, high = connection.execute(kept, {"n": name}).one()
            assert low <= int(value) <= high
    engine.dispose()


@each_of_ours
def test_variables_are_read_by_the_code(name: str) -> None:
    environment = services()[name]["environment"]
    sources = [path for folder in ("forge_assets", "resources") for path in _python(folder)]
    text = "\n".join(path.read_text() for path in sources)
    text += (FOLDER / "gcp" / "dagster.yaml").read_text()
    for variable in environment:
        assert variable in text, variable
    offered = (FOLDER / "env.example").read_text()
    assert {"FORGE_LOG_BUCKET", "WANDB_API_KEY"} <= set(environment)
    passed_on = [variable for variable, value in environment.items() if value is None]
    assert [variable for variable in passed_on if variable not in offered] == []


def _python(folder: str) -> list[Path]:
    return sorted((ROOT / folder).rglob("*.py"))


def test_every_value_of_the_example_is_used() -> None:
    offered = re.findall(r"^#?([A-Z_]+)=", (FOLDER / "env.example").read_text(), re.M)
    text = (FOLDER / "compose.yaml").read_text()
    composes_own = {"COMPOSE_PROFILES", "COMPOSE_FILE"}
    assert [name for name in offered if name not in text and name not in composes_own] == []
    asked = set(re.findall(r"\$\{(\w+)", text))
    assert asked - set(offered) == set()


@each_of_ours
def test_the_image_is_a_target_of_the_dockerfile(name: str) -> None:
    for target in ("cpu", "cuda"):
        service = services(FORGE_TARGET=target)[name]
        assert service["build"]["target"] == target
        assert target in stages()
        assert service["image"].endswith(f":{target}")
    build = service["build"]
    assert (FOLDER / build["context"]).resolve() == ROOT
    assert (ROOT / build["dockerfile"]).exists()
    arguments = {arg.split("=")[0] for stage in stages().values() for arg in stage.all("ARG")}
    assert set(build["args"]) <= arguments


@each_of_ours
@pytest.mark.parametrize("place", ["host", "gcp"])
def test_the_home_of_dagster_is_one_of_the_image(name: str, place: str) -> None:
    environment = services(FORGE_LOGS_IN=place)[name]["environment"]
    assert environment["DAGSTER_HOME"] == f"/var/lib/forge/{place}"
    assert (FOLDER / place / "dagster.yaml").exists()
    assert "for home in host gcp;" in stages()["base"].all("RUN")[0]


@each_of_ours
def test_each_command_is_a_command_line(name: str) -> None:
    parse(services()[name]["command"])


@each_of_ours
def test_each_is_started_again_and_asked_how_it_is(name: str) -> None:
    service = services()[name]
    assert service["restart"] == "unless-stopped"
    assert "entrypoint" not in service
    assert "init" not in service  # the image has one that passes signals to all
    kind, *command = service["healthcheck"]["test"]
    assert kind == "CMD"
    if command[0] != "python":
        parse(command)


def test_what_is_waited_for_has_a_health() -> None:
    found = services()
    for service in found.values():
        for name, condition in service.get("depends_on", {}).items():
            assert condition["condition"] == "service_healthy"
            assert found[name]["healthcheck"]["test"]


def test_only_the_ui_has_a_port_and_on_this_host_alone() -> None:
    published = {
        name: service["ports"] for name, service in services().items() if "ports" in service
    }
    assert published == {"webserver": ["127.0.0.1:3000:3000"]}
    assert all("network_mode" not in service for service in services().values())


def test_webserver_and_daemon_find_the_code_where_it_listens() -> None:
    found = services()
    code = parse(found["code"]["command"])
    assert code["host"] == "0.0.0.0"
    for name in ("webserver", "daemon"):
        (place,) = parse(found[name]["command"])["workspace"]
        assert place == str(FOLDER / "compose" / "workspace.yaml")
        (origin,) = WorkspaceFileTarget([place]).create_origins()
        assert (origin.host, origin.port) == ("code", code["port"])
        assert origin.location_name == code["location_name"] == code["module_name"]
    health = parse(found["code"]["healthcheck"]["test"][1:])
    assert health["port"] == code["port"]


def test_the_check_of_the_ui_asks_its_own_port() -> None:
    webserver = services()["webserver"]
    port = parse(webserver["command"])["port"]
    code = webserver["healthcheck"]["test"][-1]
    compile(code, "healthcheck", "exec")
    assert f":{port}/server_info" in code
    assert webserver["ports"][0].endswith(f":{port}")


def test_what_is_kept_lies_on_volumes_and_the_results_with_the_project() -> None:
    whole = composed(SECRET)
    used = set()
    for name, service in whole["services"].items():
        for volume in service["volumes"]:
            if isinstance(volume, str):
                used.add(volume.split(":")[0])
                continue
            assert name in OURS
            assert (volume["source"], volume["target"]) == ("../mine", "/project")
            assert volume["bind"] == {"create_host_path": False}
            assert service["environment"]["FORGE_CONFIG"] == "/project/forge.yaml"
    assert used == set(whole["volumes"])


def test_runs_have_time_to_hand_back_their_work() -> None:
    instance = yaml.safe_load((FOLDER / "host" / "dagster.yaml").read_text())
    seconds = int(services()["code"]["stop_grace_period"].removesuffix("s"))
    assert seconds >= instance["run_monitoring"]["cancel_timeout_seconds"]


def test_the_gpu_is_for_the_code_alone() -> None:
    more = composed(SECRET, "compose.gpu.yaml")["services"]
    assert set(more) == {"code"}
    (device,) = more["code"]["deploy"]["resources"]["reservations"]["devices"]
    assert device["driver"] == "nvidia"
    assert device["capabilities"] == ["gpu"]
    example = (FOLDER / "env.example").read_text()
    (files,) = re.findall(r"COMPOSE_FILE=(\S+)", example)
    assert all((FOLDER / name).exists() for name in files.split(":"))


def test_a_wrong_command_would_be_noticed() -> None:
    with pytest.raises(click.ClickException):
        parse(["dagster-daemon", "run", "--workspce", "x"])
    with pytest.raises(AssertionError):
        parse(["dagster", "code-servers", "start"])


@pytest.mark.parametrize("script", ["dagster", "dagster-webserver", "dagster-daemon", "forge"])
def test_the_programs_are_installed_with_the_project(script: str) -> None:
    assert os.access(Path(sys.executable).parent / script, os.X_OK)

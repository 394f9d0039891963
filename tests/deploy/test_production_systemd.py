"""deploy/systemd: units that systemd accepts, commands that exist, a sandbox that lets them work."""

import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import yaml
from dagster._core.workspace.load_target import WorkspaceFileTarget

from tests.deploy import units
from tests.deploy.programs import CHECKOUT, parse
from tests.deploy.units import COMMON, FOLDER, PREFIX, SERVICES
from tests.embedded_home import WAIT_SECONDS, Home, end
from tests.pipeline.project import ROOT

STATE = "/var/lib/forge"
each_service = pytest.mark.parametrize("name", SERVICES)


def seconds(name: str) -> int:
    given = units.service(name).last("TimeoutStopSec")
    assert given is not None
    return int(given)


def environment() -> dict[str, str]:
    """What stands in forge.env.example, also what is commented out."""
    found = re.findall(r"^#?([A-Z_]+)='(.*)'$", (FOLDER / "forge.env.example").read_text(), re.M)
    return dict(found)


@pytest.fixture
def unit_path(tmp_path: Path) -> Path:
    """The units with the programs and folders of this checkout, for systemd to look at."""
    names = [COMMON, *FOLDER.glob(f"{PREFIX}*.*")]
    programs = str(Path(sys.executable).parent)
    for path in [name for name in names if name.is_file()]:
        target = tmp_path / path.relative_to(FOLDER)
        target.parent.mkdir(exist_ok=True)
        text = path.read_text().replace(f"{CHECKOUT}/.venv/bin", programs)
        target.write_text(text.replace(CHECKOUT, str(ROOT)))
    return tmp_path


def verify(folder: Path) -> str:
    """What systemd says of the units."""
    names = sorted(str(path) for path in folder.iterdir() if path.is_file())
    ended = subprocess.run(
        ["systemd-analyze", "verify", *names],
        env=os.environ | {"SYSTEMD_UNIT_PATH": f"{folder}:"},
        capture_output=True,
        text=True,
        check=False,
    )
    return ended.stdout + ended.stderr + ("" if ended.returncode == 0 else "failed")


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd here")
def test_systemd_has_nothing_to_say(unit_path: Path) -> None:
    assert verify(unit_path) == ""
    common = unit_path / COMMON.relative_to(FOLDER)
    common.write_text(common.read_text().replace("ProtectSystem=", "ProtectSystems="))
    assert "ProtectSystems" in verify(unit_path)


def test_the_target_wants_every_service_and_they_are_part_of_it() -> None:
    target = units.read(FOLDER / f"{PREFIX[:-1]}.target")
    wanted = " ".join(target.all("Unit", "Wants")).split()
    assert wanted == [f"{PREFIX}{name}.service" for name in SERVICES]
    assert {path.name for path in FOLDER.glob("*.service")} == set(wanted)
    assert target.all("Install", "WantedBy") == ["multi-user.target"]
    for name in SERVICES:
        assert "forge-assets.target" in units.service(name).all("Unit", "PartOf")


def test_the_daemon_ends_before_the_code_and_begins_when_it_answers() -> None:
    daemon, code = units.service("daemon"), units.service("code")
    assert f"{PREFIX}code.service" in daemon.all("Unit", "PartOf")
    (line,) = code.all("Service", "ExecStartPost")
    shell, option, script = shlex.split(line)
    assert (shell, option) == ("/bin/sh", "-c")
    subprocess.run(["sh", "-n", "-c", script], check=True)
    found = re.fullmatch(r"until (\S+)(.+); do sleep 1; done", script)
    assert found
    asked = parse([Path(found[1]).name, *shlex.split(found[2])])
    assert asked["socket"] == parse(["dagster", *units.command("code")[1:]])["socket"]


@each_service
def test_the_database_is_there_first_and_goes_last(name: str) -> None:
    database = f"{PREFIX}database.service"
    service = units.service(name)
    after = " ".join(service.all("Unit", "After")).split()
    if name == "database":
        # Others wait until it says that it is ready.
        assert service.last("Type") == "notify"
        return
    assert service.all("Unit", "Requires") == [database]
    assert database in after
    assert name == "code" or f"{PREFIX}code.service" in after


@each_service
def test_each_command_is_a_command_line(name: str) -> None:
    program, *arguments = units.command(name)
    assert Path(program).parent == Path(CHECKOUT, ".venv", "bin")
    assert os.access(Path(sys.executable).parent / Path(program).name, os.X_OK)
    if name == "database":
        assert arguments[0] == "-m"
        assert (ROOT / arguments[1].replace(".", "/")).with_suffix(".py").exists()
    else:
        parse([Path(program).name, *arguments])


def test_webserver_and_daemon_find_the_code_where_it_listens() -> None:
    code = parse(["dagster", *units.command("code")[1:]])
    folder = units.service("code").last("RuntimeDirectory")
    assert Path(code["socket"]).parent == Path("/run", str(folder))
    assert units.service("code").last("RuntimeDirectoryMode") == "0700"
    for name in ("webserver", "daemon"):
        (place,) = parse([f"dagster-{name}", *units.command(name)[1:]])["workspace"]
        (origin,) = WorkspaceFileTarget([place]).create_origins()
        assert origin.socket == code["socket"]
        assert origin.location_name == code["location_name"] == code["module_name"]


def test_the_ui_listens_on_this_host_alone() -> None:
    webserver = parse(["dagster-webserver", *units.command("webserver")[1:]])
    assert (webserver["host"], webserver["port"]) == ("127.0.0.1", 3000)
    assert "host" not in units.command("code")


def test_runs_hear_of_the_end_and_the_database_does_not() -> None:
    code = units.service("code")
    assert (code.last("KillSignal"), code.last("KillMode")) == ("SIGTERM", "control-group")
    instance = yaml.safe_load((ROOT / "deploy" / "host" / "dagster.yaml").read_text())
    assert seconds("code") >= instance["run_monitoring"]["cancel_timeout_seconds"]
    database = units.service("database")
    assert database.last("KillMode") == "mixed"
    from deploy.systemd.hold_database import OTHERS_SECONDS
    from resources.postgres_data import FAST_SECONDS, IMMEDIATE_SECONDS

    assert seconds("database") > OTHERS_SECONDS
    assert seconds("database") > FAST_SECONDS + IMMEDIATE_SECONDS


def test_the_gpu_and_the_compilation_of_its_kernels_are_left_open() -> None:
    """Each of these closes /dev or forbids memory that is written and then executed."""
    code = units.service("code").sections["Service"]
    closing = ["PrivateDevices", "ProtectClock", "DeviceAllow", "DevicePolicy"]
    closing += ["MemoryDenyWriteExecute", "ProcSubset", "SystemCallFilter", "PrivateNetwork"]
    assert [name for name in closing if name in code] == []
    (prepare,) = code["ExecStartPre"]
    # As root, and a host without the driver starts, too.
    assert prepare.startswith("-+/usr/bin/nvidia-modprobe ")
    for name in ("database", "webserver", "daemon"):
        assert units.service(name).last("PrivateDevices") == "yes"


@each_service
def test_it_runs_as_its_own_user_and_writes_to_its_home_alone(name: str) -> None:
    service = units.service(name)
    assert (service.last("User"), service.last("Group")) == ("forge", "forge")
    assert service.last("ProtectSystem") == "strict"
    assert service.last("NoNewPrivileges") == "yes"
    assert service.last("StateDirectory") == Path(STATE).name
    assert service.last("ReadWritePaths") is None
    # What has to be written lies there.
    given = environment()
    for variable in ("DAGSTER_HOME", "FORGE_CONFIG"):
        assert given[variable].startswith(f"{STATE}/")


def test_the_embedded_server_finds_room_for_its_socket_in_that_home() -> None:
    """Else it would lie in /tmp, which each service has of its own."""
    from resources.postgres_instance import fits_socket, locate

    home = Path(STATE, ".local", "share", "forge-assets")
    instance = locate(Path(CHECKOUT), home)
    folder = home / instance.folder.name
    assert fits_socket(folder / "socket")


def test_every_variable_is_read_somewhere_and_no_secret_is_given() -> None:
    sources = [*(ROOT / "forge_assets").rglob("*.py"), *(ROOT / "resources").rglob("*.py")]
    text = "\n".join(path.read_text() for path in sources)
    text += (ROOT / "deploy" / "gcp" / "dagster.yaml").read_text()
    given = environment()
    assert {"DAGSTER_HOME", "FORGE_CONFIG", "FORGE_DATABASE_URL"} <= set(given)
    assert [name for name in given if name not in text] == []
    assert all(not value for name, value in given.items() if "KEY" in name or "CREDENT" in name)


@each_service
def test_the_environment_comes_from_one_file(name: str) -> None:
    assert units.service(name).all("Service", "EnvironmentFile") == ["/etc/forge/forge.env"]
    assert units.service(name).all("Service", "Environment") == []
    assert ". /etc/forge/forge.env" in (FOLDER / "as-forge").read_text()


def test_as_forge_hands_on_a_command_and_the_environment(tmp_path: Path) -> None:
    """With a sudo that does not change the user, and its places elsewhere."""
    (tmp_path / "forge.env").write_text("FORGE_CONFIG='/a b/forge.yaml'\nURL='x?a=1&b=2'\n")
    (tmp_path / "sudo").write_text(
        '#!/bin/sh\n[ "$1 $2 $3" = "--user forge --set-home" ]\nshift 3\nexec "$@"\n'
    )
    (tmp_path / "sudo").chmod(0o755)
    script = (FOLDER / "as-forge").read_text()
    assert os.access(FOLDER / "as-forge", os.X_OK)
    script = script.replace("/etc/forge", str(tmp_path)).replace(CHECKOUT, str(ROOT))
    (tmp_path / "as-forge").write_text(script)
    code = "import os, sys; print(os.environ['FORGE_CONFIG'], os.environ['URL'], sys.argv[1:])"
    ended = subprocess.run(
        ["sh", str(tmp_path / "as-forge"), sys.executable, "-c", code, "two words", "$HOME"],
        env={"PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.stdout.strip() == "/a b/forge.yaml x?a=1&b=2 ['two words', '$HOME']", ended.stderr


# the service that holds the database


class Holder:
    """The program of forge-assets-database, and what it tells systemd."""

    def __init__(self, home: Home, **more: str) -> None:
        # A path of its own: those of pytest are too long for a socket.
        self.address = f"@forge-test-{os.getpid()}-{id(self)}"
        self._channel = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._channel.bind("\0" + self.address[1:])
        self._channel.settimeout(WAIT_SECONDS)
        arguments = units.command("database")[1:]
        self.process = subprocess.Popen(
            [sys.executable, *arguments],
            cwd=ROOT,
            env=home.environment | {"NOTIFY_SOCKET": self.address} | more,
            stderr=subprocess.PIPE,
            text=True,
        )

    def told(self) -> str:
        return self._channel.recv(1000).decode()

    def ends(self) -> tuple[int, str]:
        self.process.send_signal(signal.SIGTERM)
        _, said = self.process.communicate(timeout=WAIT_SECONDS)
        return self.process.returncode, said

    def close(self) -> None:
        self._channel.close()
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    made = Home(tmp_path)
    yield made
    made.close()


def test_the_database_lives_between_ready_and_the_end_and_stops_in_order(home: Home) -> None:
    holder = Holder(home)
    try:
        assert holder.told() == "READY=1"
        server = psutil.Process(int(str(home.instance.state()["postmaster"])))
        keeper = psutil.Process(int(str(home.instance.state()["keeper"])))
        # A user comes and goes: the server stays.
        end(home.connected_user())
        assert server.is_running()
        assert holder.ends() == (0, "database: ready\n")
        assert holder.told() == "STOPPING=1"
        # It waited: systemd kills what is left once it has ended.
        assert not server.is_running()
        assert not keeper.is_running() or keeper.status() == psutil.STATUS_ZOMBIE
    finally:
        holder.close()
    log = home.instance.log.read_text()
    assert "database system is shut down" in log


def test_with_a_url_it_holds_nothing(home: Home, postgres_url: str) -> None:
    holder = Holder(home, FORGE_DATABASE_URL=postgres_url)
    try:
        assert holder.told() == "READY=1"
        assert holder.ends() == (0, "database: ready\n")
    finally:
        holder.close()
    assert not home.instance.folder.exists()


def test_a_database_that_cannot_be_used_is_one_sentence(home: Home) -> None:
    holder = Holder(home, FORGE_DATABASE_URL="postgresql://ada@127.0.0.1:1/forge")
    try:
        _, said = holder.process.communicate(timeout=WAIT_SECONDS)
    finally:
        holder.close()
    assert holder.process.returncode == 2
    assert said.startswith("database: FORGE_DATABASE_URL: ")
    assert len(said.splitlines()) == 1

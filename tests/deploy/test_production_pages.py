"""The pages on the GPU box and on GCP: their commands run, as far as they do without root and a cloud."""

import os
import re
import shlex
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from resources.database import normalised
from tests.deploy import units
from tests.deploy.images import stages
from tests.deploy.programs import CHECKOUT, parse
from tests.docs_blocks import blocks
from tests.pipeline.project import ROOT

BOX = ROOT / "docs" / "how-to" / "gpu-box.md"
GCP = ROOT / "docs" / "how-to" / "gcp.md"
each_page = pytest.mark.parametrize("page", [BOX, GCP], ids=lambda page: str(page.stem))
OWN_ROOT = ("/opt", "/var/lib/forge", "/etc/forge", "/etc/systemd/system", "/usr/local/bin")
RECORDED = ("apt-get", "useradd", "git", "make", "systemctl", "journalctl", "chown", "as-forge")
RECORDED += ("ssh", "docker", "gcloud", "cloud-sql-proxy")
RECORDER = """#!/bin/sh
printf '%s' "$(basename "$0")" >> "$RECORD"
for word in "$@"; do printf '\\037%s' "$word" >> "$RECORD"; done
printf '\\n' >> "$RECORD"
"""
# Of install(1), what only root may do.
INSTALL = """#!/bin/sh
real=""
skip=""
for word in "$@"; do
    if [ "$skip" ]; then skip=""; continue; fi
    case "$word" in --owner|--group) skip=1 ;; *) real="$real '$word'" ;; esac
done
eval "exec /usr/bin/install $real"
"""


def scripts(page: Path) -> list[str]:
    return [block.text for block in blocks(page, "sh")]


@dataclass
class Machine:
    """A root folder of its own; programs that need more than that are recorded."""

    folder: Path

    @property
    def record(self) -> Path:
        return self.folder / "record"

    def __post_init__(self) -> None:
        programs = self.folder / "programs"
        programs.mkdir()
        for name in RECORDED:
            self._program(name, RECORDER)
        self._program("sudo", '#!/bin/sh\nexec "$@"\n')
        self._program("install", INSTALL)
        self._program("openssl", "#!/bin/sh\necho 0123456789abcdef\n")
        for place in ("/etc/systemd/system", "/usr/local/bin", "/opt"):
            self.place(place).mkdir(parents=True)
        self.place(CHECKOUT).symlink_to(ROOT)

    def _program(self, name: str, text: str) -> None:
        path = self.folder / "programs" / name
        path.write_text(text)
        path.chmod(0o755)

    def place(self, path: str) -> Path:
        return self.folder / "root" / path.lstrip("/")

    def run(self, block: str) -> None:
        for prefix in OWN_ROOT:
            block = re.sub(
                rf"(?<![\w/]){prefix}(?=[/\s']|$)", str(self.place(prefix)), block, flags=re.M
            )
        ended = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", block],
            cwd=self.folder,
            env={
                "PATH": f"{self.folder / 'programs'}:{os.environ['PATH']}",
                "RECORD": str(self.record),
                "REPOSITORY": "https://example.com/forge.git",
                "PROJECT": "demo",
                "REGION": "us-central1",
                "ACCOUNT": "forge@demo.iam.gserviceaccount.com",
            },
            capture_output=True,
            text=True,
            check=False,
        )
        assert ended.returncode == 0, block + ended.stderr

    def asked(self) -> list[list[str]]:
        """The recorded commands, with paths of the real root."""
        text = self.record.read_text().replace(str(self.folder / "root"), "")
        return [line.split("\037") for line in text.splitlines()]


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def done(machine: Machine, page: Path) -> list[list[str]]:
    """All blocks of the box's page in their order, then those of the other one."""
    pages = [BOX] if page == BOX else [BOX, page]
    for block in [block for each in pages for block in scripts(each)]:
        if "docker compose" not in block and "cp env.example" not in block:
            machine.run(block)
    return machine.asked()


def test_what_the_box_page_installs_is_what_the_units_expect(machine: Machine) -> None:
    done(machine, BOX)
    system = machine.place("/etc/systemd/system")
    installed = {path.relative_to(system) for path in system.rglob("*") if path.is_file()}
    expected = {path.relative_to(units.FOLDER) for path in units.FOLDER.rglob("forge-assets*/*")}
    expected |= {
        path.relative_to(units.FOLDER)
        for path in units.FOLDER.glob("forge-assets*.*")
        if path.is_file()
    }
    assert installed == expected
    assert len(installed) == 6
    environment = machine.place("/etc/forge/forge.env")
    assert environment.stat().st_mode & 0o777 == 0o640
    given = dict(re.findall(r"^([A-Z_]+)='(.*)'$", environment.read_text(), re.M))
    home = machine.place(given["DAGSTER_HOME"]) / "dagster.yaml"
    assert str(home.readlink()).endswith(f"{CHECKOUT}/deploy/host/dagster.yaml")
    assert yaml.safe_load(home.read_text())["storage"]["custom"]["class"] == "ForgeDagsterStorage"
    project = machine.place(given["FORGE_CONFIG"])
    assert project.read_text() == (ROOT / "forge.yaml").read_text()
    assert (project.parent / "workflows").is_dir()
    assert os.access(machine.place("/usr/local/bin/as-forge"), os.X_OK)


def test_the_user_has_the_home_that_the_units_write_to(machine: Machine) -> None:
    (made,) = [words for words in done(machine, BOX) if words[0] == "useradd"]
    state = units.service("code").last("StateDirectory")
    assert made[made.index("--home-dir") + 1] == f"/var/lib/{state}"
    assert "--system" in made
    assert made[-1] == units.service("code").last("User")


@each_page
def test_commands_of_ours_are_command_lines(page: Path, machine: Machine) -> None:
    """And the services and targets that are named exist."""
    known = {path.stem for path in units.FOLDER.glob("forge-assets*.*")}
    seen = set()
    for program, *words in done(machine, page):
        seen.add(program)
        if program == "as-forge" and words[0] in ("forge", "dagster"):
            parse(words)
        elif program == "as-forge":
            assert words[:2] == ["python", "-m"]
            assert (ROOT / words[2].replace(".", "/")).with_suffix(".py").exists()
        elif program == "systemctl":
            names = [word.removesuffix(".service").removesuffix(".target") for word in words[1:]]
            named = [
                name for name in names if not name.startswith("-") and name != "forge-assets-*"
            ]
            assert set(named) <= known, words
        elif program == "make":
            assert words[:2] == ["-C", CHECKOUT]
            assert re.search(rf"^{words[2]}:", (ROOT / "Makefile").read_text(), re.M)
        elif program == "docker" and words[0] == "build":
            assert (ROOT / words[words.index("-f") + 1]).exists()
            assert words[words.index("--target") + 1] in stages()
    assert "as-forge" in seen


def test_a_restore_is_of_the_file_that_a_dump_made(machine: Machine) -> None:
    made = [words[-2:] for words in done(machine, BOX) if "deploy.store_backup" in words]
    assert made[:2] == [
        ["dump", "/var/lib/forge/backup/store.dump"],
        ["restore", "/var/lib/forge/backup/store.dump"],
    ]
    # Nobody may use the database while it is restored, and somebody must keep it up.
    stopped = next(words for words in machine.asked() if words[:2] == ["systemctl", "stop"])
    assert set(stopped[2:]) == {f"forge-assets-{name}" for name in ("webserver", "daemon", "code")}


def test_the_gcp_page_switches_to_the_bucket(machine: Machine) -> None:
    done(machine, GCP)
    home = machine.place("/var/lib/forge/dagster/dagster.yaml")
    content = yaml.safe_load(home.read_text())
    assert content["compute_logs"]["class"] == "GCSComputeLogManager"
    variable = content["compute_logs"]["config"]["bucket"]["env"]
    environment = machine.place("/etc/forge/forge.env").read_text()
    assert f"\n{variable}='demo-forge-logs'\n" in environment
    made = [words for words in machine.asked() if words[1:4] == ["storage", "buckets", "create"]]
    assert [words[4] for words in made] == ["gs://demo-forge-logs"]


def test_every_role_that_is_granted_is_explained(machine: Machine) -> None:
    text = GCP.read_text()
    explained = set(re.findall(r"^\| `(roles/[\w.]+)`", text, re.M))
    asked = done(machine, GCP)
    granted = {
        word.removeprefix("--role=") for words in asked for word in words if "--role=" in word
    }
    assert granted == explained
    launches = (ROOT / "docs" / "launches.md").read_text()
    for role in ("aiplatform.user", "logging.viewer", "cloudbuild.builds.viewer", "run.developer"):
        assert role in launches
        assert f"roles/{role}" in granted


def test_each_url_of_the_gcp_page_can_be_used() -> None:
    urls = re.findall(r"FORGE_DATABASE_URL='(.+)'", GCP.read_text())
    assert len(urls) == 3
    hosts = [normalised(url).host or normalised(url).query["host"] for url in urls]
    assert hosts == ["127.0.0.1", "10.1.2.3", "/cloudsql/PROJECT:REGION:forge"]


def test_the_docker_block_names_services_of_the_compose_file() -> None:
    services = yaml.safe_load((ROOT / "deploy" / "compose.yaml").read_text())["services"]
    (block,) = [block for block in scripts(BOX) if "docker compose" in block]
    for line in block.splitlines():
        words = shlex.split(line)
        if "exec" in words:
            service, program, *rest = words[words.index("exec") + 1 :]
            assert service in services
            assert program in ("forge", "python")
            assert program == "forge" or rest[1] == "deploy.store_backup"
    assert [block for block in scripts(BOX) if "cp env.example .env" in block]
    assert (ROOT / "deploy" / "env.example").exists()


@each_page
def test_every_block_is_a_script(page: Path) -> None:
    for block in scripts(page):
        subprocess.run(["bash", "-n"], input=block, text=True, check=True)

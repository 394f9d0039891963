"""A store is dumped and restored whole; what cannot be done is one sentence."""

import os
import stat
from pathlib import Path

import pytest
import sqlalchemy as sa

from deploy.store_backup import libpq, main
from resources.database import create_engine
from tests.pipeline.project import Project


@pytest.fixture
def used(project: Project, monkeypatch: pytest.MonkeyPatch) -> Project:
    """A project whose store holds subjects, and the environment of this process for its database."""
    ingested = project.run(
        "dagster", "asset", "materialize", "-m", "forge_assets.definitions", "--select", "subjects"
    )
    assert ingested.code == 0, ingested.text
    monkeypatch.setenv("FORGE_DATABASE_URL", project.url)
    return project


def contents(url: str) -> dict[str, int]:
    """Table -> rows, of both schemas."""
    engine = create_engine(url)
    with engine.connect() as connection:
        names = connection.execute(
            sa.text(
                "SELECT format('%I.%I', schemaname, tablename) FROM pg_tables"
                " WHERE schemaname IN ('forge', 'public')"
            )
        ).scalars()
        counts = {
            name: connection.exec_driver_sql(f"SELECT count(*) FROM {name}").scalar_one()
            for name in names
        }
    engine.dispose()
    return counts


def test_what_is_dumped_comes_back_in_an_empty_database(
    used: Project, empty_postgres_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = contents(used.url)
    assert before["forge.subjects"] == 7
    assert before["public.runs"] == 1
    file = tmp_path / "store.dump"
    assert main(["dump", str(file)]) == 0
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert os.listdir(tmp_path) == ["store.dump"]
    monkeypatch.setenv("FORGE_DATABASE_URL", empty_postgres_url)
    assert main(["restore", str(file)]) == 0
    assert contents(empty_postgres_url) == before
    # And the project reads it.
    ended = used.forge("status", FORGE_DATABASE_URL=empty_postgres_url)
    assert ended.code == 0, ended.text


def test_a_restore_takes_back_what_came_after_the_dump(used: Project, tmp_path: Path) -> None:
    file = tmp_path / "store.dump"
    assert main(["dump", str(file)]) == 0
    before = contents(used.url)
    used.execute("DELETE FROM forge.subject_fields")
    used.execute("CREATE TABLE public.later (id int)")
    # As an upgrade adds them.
    used.execute("CREATE TABLE forge.later (id int)")
    used.execute("CREATE VIEW forge.seen AS SELECT id FROM forge.interactions")
    assert contents(used.url) != before
    assert main(["restore", str(file)]) == 0
    after = contents(used.url)
    assert after.pop("public.later") == 0  # what the dump does not know is left alone
    assert after == before


@pytest.mark.parametrize("action", ["dump", "restore"])
def test_a_file_that_cannot_be_used_is_told(
    action: str,
    postgres_url: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("FORGE_DATABASE_URL", postgres_url)
    assert main([action, str(tmp_path / "absent" / "store.dump")]) == 2
    told = capsys.readouterr().err
    assert told.startswith("store_backup: ")
    assert "absent" in told
    assert len(told.splitlines()) == 1


def test_a_file_of_another_kind_changes_nothing(
    used: Project, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = contents(used.url)
    (tmp_path / "notes.txt").write_text("no dump\n")
    assert main(["restore", str(tmp_path / "notes.txt")]) == 2
    assert "archive" in capsys.readouterr().err
    assert contents(used.url) == before


def test_the_password_is_on_no_command_line() -> None:
    url = sa.make_url("postgresql+psycopg2://ada:s3cret@db:5433/forge?sslmode=require")
    assert libpq(url) == "postgresql://ada@db:5433/forge?sslmode=require"
    socket = sa.make_url("postgresql+psycopg2://forge:x@/forge?host=/tmp/a b&port=5432")
    assert "x@" not in libpq(socket)

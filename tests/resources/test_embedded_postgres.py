"""The embedded server's life: starts, ends and kills, each test in a home of its own."""

import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.embedded_home import Home, answer, ask, assert_end, end, stale_socket_lock


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    found = Home(tmp_path)
    yield found
    found.close()


def test_last_user_ends_the_server_and_rows_stay(home: Home) -> None:
    first, second = home.connected_user(), home.connected_user()
    processes = home.processes()
    ask(first, "CREATE TABLE kept AS SELECT 7 AS number; COMMIT; SELECT 1")
    end(first)
    assert ask(second, "SELECT 1") == "1"
    end(second)
    assert_end(processes)
    assert not (home.instance.data / "postmaster.pid").exists()
    assert ask(home.connected_user(), "SELECT number FROM kept") == "7"


def test_server_ends_after_kill_of_its_user(home: Home) -> None:
    user = home.connected_user()
    processes = home.processes()
    user.kill()
    assert_end(processes)


def test_five_first_starts_at_once(home: Home) -> None:
    users = [home.start_user() for _ in range(5)]
    assert [answer(user) for user in users] == ["forge"] * 5
    places = {ask(user, "SELECT pg_postmaster_start_time()::text") for user in users}
    assert len(places) == 1
    processes = home.processes()
    for user in users:
        end(user)
    assert_end(processes)


def test_users_survive_kill_of_the_postmaster(home: Home) -> None:
    user = home.connected_user()
    postmaster = home.process("postmaster")
    postmaster.kill()
    assert_end([postmaster])
    assert answer(home.start_user()) == "forge"
    assert home.process("postmaster") != postmaster
    processes = home.processes()
    for each in home.users:
        each.kill()
    assert_end(processes)
    assert user.wait() == -signal.SIGKILL


def test_kill_of_the_keeper_ends_the_server(home: Home) -> None:
    home.connected_user()
    keeper, postmaster = home.processes()
    keeper.kill()
    assert_end([keeper, postmaster])
    assert answer(home.start_user()) == "forge"
    processes = home.processes()
    for each in home.users:
        each.kill()
    assert_end(processes)


def test_engine_outlives_its_server(home: Home) -> None:
    """A long-lived process goes on after the server and its keeper are gone."""
    user = home.connected_user("migrated")
    keeper, postmaster = home.processes()
    keeper.kill()
    assert_end([keeper, postmaster])
    assert ask(user, "SELECT 5") == "5"
    assert home.process("postmaster") != postmaster


def test_terminated_keeper_stops_the_server(home: Home) -> None:
    home.connected_user()
    processes = home.processes()
    processes[0].terminate()
    assert_end(processes)
    assert answer(home.start_user()) == "forge"


def test_pid_file_that_names_a_stranger(home: Home) -> None:
    user = home.connected_user()
    processes = home.processes()
    end(user)
    assert_end(processes)
    account = home.instance.account
    identity = account.identity() if account is not None else {}
    with subprocess.Popen(["sleep", "1000"], **identity) as stranger:
        try:
            stale = [home.instance.data / "postmaster.pid", stale_socket_lock(home)]
            # A socket folder outside the instance went away with its keeper.
            for name in filter(lambda path: path.parent.exists(), stale):
                name.write_text(f"{stranger.pid}\n{home.instance.data}\n1\n5432\n\n\n1 1\nready\n")
                home.instance.give(name)
            assert answer(home.start_user()) == "forge"
            assert stranger.poll() is None
        finally:
            stranger.kill()


def test_data_of_another_version_and_lost_password(home: Home) -> None:
    user = home.connected_user()
    processes = home.processes()
    end(user)
    assert_end(processes)
    version = home.instance.data / "PG_VERSION"
    version.write_text("17\n")
    assert "was made by PostgreSQL 17, and 18 is installed" in answer(home.start_user())
    version.write_text("18\n")
    home.instance.password_file.unlink()
    assert "the password of the embedded PostgreSQL, is gone" in answer(home.start_user())

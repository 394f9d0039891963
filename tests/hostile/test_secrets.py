"""Secrets are planted wherever one may come, a stage runs, and everything it left is searched."""

import base64
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote, quote_plus

import pytest
import sqlalchemy as sa

from tests.chat_server import ChatServer, Reply, completion
from tests.pipeline.project import OTHER, ROOT, SMALL, Ended, Project, step
from tests.transformers_serve import free_port

DATABASE_PASSWORD = "db S3cret/%&:w7Qx"
SOURCE_PASSWORD = "src S3cret'#k9Zr"
API_KEY = "sk-planted-4f8a1c93e7b2"
WANDB_KEY = "0123456789abcdefplantedwandbkey456789abc"
SECRETS = {
    "FORGE_DATABASE_URL": DATABASE_PASSWORD,
    "SOURCE_URL": SOURCE_PASSWORD,
    "FAR_KEY": API_KEY,
    "WANDB_API_KEY": WANDB_KEY,
}
ECHO = f"your header was: Authorization: Bearer {API_KEY}"


def spellings(secret: str) -> set[bytes]:
    """The secret as it is, as a URL, JSON or Python writes it, and in base64 at any offset."""
    texts = {secret, quote(secret), quote(secret, safe=""), quote_plus(secret)}
    texts |= {json.dumps(secret)[1:-1], repr(secret)[1:-1]}
    texts |= {json.dumps(text)[1:-1] for text in list(texts)}
    encoded = {base64.b64encode(b"x" * shift + secret.encode())[4:-4] for shift in range(3)}
    return {text.encode() for text in texts} | encoded


@pytest.fixture
def planted(project: Project) -> Iterator[Project]:
    """A project whose database, source and server each want a secret; nothing has run yet."""
    passwords = {"forge_secretive": DATABASE_PASSWORD, "forge_source": SOURCE_PASSWORD}
    with project.engine.connect() as connection:
        quoted = connection.connection.cursor()  # type: ignore[no-untyped-call]
        for role, password in passwords.items():
            rights = "SUPERUSER" if role == "forge_secretive" else "IN ROLE pg_read_all_data"
            quoted.execute(f"DROP ROLE IF EXISTS {role}")
            quoted.execute(f"CREATE ROLE {role} LOGIN {rights} PASSWORD %s", (password,))
        quoted.execute(
            "CREATE TABLE public.items AS SELECT * FROM (VALUES"
            " ('s0', 'fine'), ('s1', 'refuse me'), ('s2', 'echo me')) AS v(key, text)"
        )
        connection.connection.commit()
    url = sa.make_url(project.url)
    for name, role in (("FORGE_DATABASE_URL", "forge_secretive"), ("SOURCE_URL", "forge_source")):
        secret = url.set(username=role, password=passwords[role])
        project.environment[name] = secret.render_as_string(hide_password=False)
    home = project.folder / "dagster"
    home.mkdir()
    shutil.copy(ROOT / "dagster.yaml", home)
    project.environment |= {"FAR_KEY": API_KEY, "WANDB_API_KEY": WANDB_KEY}
    project.environment |= {"DAGSTER_HOME": str(home), "TMPDIR": str(project.folder / "home")}
    project.write_workflow([step("draft", "{text}", retries=0)])
    yield project
    project.execute("DROP OWNED BY forge_source")
    for role in passwords:
        project.execute(f"DROP ROLE {role}")


def configured(project: Project, url: str, query: str = "SELECT key, text FROM items") -> None:
    far = {"engine": "openai_http", "source": "echo", "url": url, "api_key_env": "FAR_KEY"}
    source = {
        "source": "sql",
        "url": "${SOURCE_URL}",
        "query": query,
        "key": "key",
        "name": "texts",
    }
    project.configure(models={SMALL: far, OTHER: far}, subjects=source)


def test_no_secret_is_left_anywhere(planted: Project) -> None:
    ended: list[Ended] = []
    script = {
        "refuse me": [Reply(400, {"error": {"message": ECHO}})],
        "echo me": [Reply(200, completion(ECHO) | {"system_fingerprint": API_KEY})],
    }
    # Runs that fail: no table, no server, a server that tells what it was sent.
    configured(planted, "http://127.0.0.1:9/v1", "SELECT key, text FROM nowhere")
    ended.append(planted.forge("run", "--stage", "canary-10"))
    assert "nowhere" in ended[-1].err, ended[-1].text
    configured(planted, f"http://127.0.0.1:{free_port()}/v1")
    ended.append(planted.forge("preflight", "--stage", "canary-10"))
    assert "no answer from" in ended[-1].text
    with ChatServer(models=Reply(401, {"error": {"message": ECHO}})) as server:
        configured(planted, server.url)
        ended.append(planted.materialize("canary-10"))
        assert ended[-1].code == 1
        assert "answered 401" in ended[-1].text, ended[-1].text
    # The run itself: one row answered, one refused, one whose answer repeats the key.
    with ChatServer(script) as server:
        configured(planted, server.url)
        ended.append(planted.forge("run", "--stage", "canary-10"))
        assert {asked.headers["Authorization"] for asked in server.asked} == {f"Bearer {API_KEY}"}
    assert planted.counts() == {"completed": 2, "failed": 1}
    for arguments in (("report", "--stage", "canary-10"), ("trace", "s1")):
        ended.append(planted.forge(*arguments))
        assert ended[-1].code == 0, ended[-1].text
    assert "***" in ended[-1].out, "the server's sentence is kept, the key in it is not"
    wrong = planted.environment["FORGE_DATABASE_URL"].replace("forge_secretive", "forge_nobody")
    ended.append(planted.forge("status", FORGE_DATABASE_URL=wrong))
    assert ended[-1].code == 2, ended[-1].text
    for name, secret in SECRETS.items():
        for spelling in spellings(secret):
            for place, content in everything(planted, ended):
                assert spelling not in content, f"{name} stands in {place}"


_kept: dict[int, list[tuple[str, bytes]]] = {}


def everything(project: Project, ended: list[Ended]) -> list[tuple[str, bytes]]:
    """Each table of each schema, each file, and what the commands printed."""
    if id(ended) not in _kept:
        found = [(f"output of command {n}", one.text.encode()) for n, one in enumerate(ended)]
        found += [(f"table {name}", text.encode()) for name, text in tables(project).items()]
        found += [(str(path), path.read_bytes()) for path in files(project.folder)]
        assert any("interaction_events" in name for name, _ in found)
        assert any("event_logs" in name for name, _ in found)
        assert any(name.endswith("report.md") for name, _ in found)
        assert len(found) > 40
        _kept[id(ended)] = found
    return _kept[id(ended)]


def tables(project: Project) -> dict[str, str]:
    rows: list[dict[str, Any]] = project.query(
        "SELECT format('%I.%I', schemaname, tablename) AS name FROM pg_tables"
        " WHERE schemaname NOT IN ('pg_catalog', 'information_schema')"
    )
    return {
        row["name"]: str(project.scalar(f"SELECT string_agg(t::text, E'\\n') FROM {row['name']} t"))
        for row in rows
    }


def files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file() and not path.is_symlink()]


def test_the_search_would_find_them() -> None:
    """Each spelling that is searched for, in a place where it stands."""
    for secret in SECRETS.values():
        stands = f"postgresql://u:{quote(secret, safe='')}@h/d {secret}".encode()
        assert any(spelling in stands for spelling in spellings(secret))
        basic = base64.b64encode(f"user:{secret}".encode())
        assert any(spelling in basic for spelling in spellings(secret))

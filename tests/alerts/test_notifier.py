"""Sending to real sockets: what arrives, and what is told of what does not."""

import socket
import time

from forge_assets.alerts.notifier import AppriseNotifier, without_secrets
from resources.alert import Message
from tests.alerts.webhook import Webhook

MESSAGE = Message("run 1", "review ramp-50: error_rate failed", "- error_rate: 9 %\n\nrun: 1")


def closed_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_a_message_arrives_whole(webhook: Webhook) -> None:
    assert AppriseNotifier({})(webhook.url, MESSAGE) == ""
    (received,) = webhook.received
    assert (received["title"], received["message"]) == (MESSAGE.title, MESSAGE.body)
    assert received["type"] == "failure"


def test_a_variable_with_several_is_refused_before_anything_is_sent(webhook: Webhook) -> None:
    """With one of them down the other would be told again at each try."""
    send = AppriseNotifier({"HOOKS": f"{webhook.url} {webhook.url}2"})
    said = send("env:HOOKS", MESSAGE)
    assert said == "holds several URLs; give each a variable of its own, `to` may name several"
    assert webhook.received == []


def test_what_is_answered_late_has_arrived() -> None:
    """Apprise by itself gives up after 4 s, and the message would be sent again."""
    with Webhook(seconds=4.5) as slow:
        assert AppriseNotifier({})(slow.url, MESSAGE) == ""
        assert slow.titles == [MESSAGE.title]


def test_a_variable_that_is_not_set_is_named() -> None:
    assert AppriseNotifier({})("env:SLACK_URL", MESSAGE) == "the environment has no SLACK_URL"


def test_a_variable_that_holds_no_url() -> None:
    send = AppriseNotifier({"SLACK_URL": "bogus://hunter22"})
    said = send("env:SLACK_URL", MESSAGE)
    assert said == "holds no URL that apprise knows"


def test_a_refused_connection_and_an_error_are_told() -> None:
    said = AppriseNotifier({})(f"json://127.0.0.1:{closed_port()}/hook", MESSAGE)
    assert said
    assert "\n" not in said
    with Webhook(status=500) as broken:
        said = AppriseNotifier({})(broken.url, MESSAGE)
        assert "500" in said or "Internal Server Error" in said


def test_one_that_hangs_is_left_after_the_bound() -> None:
    with Webhook(hangs=True) as hanging:
        began = time.monotonic()
        said = AppriseNotifier({}, seconds=0.5)(hanging.url, MESSAGE)
        assert said == "no answer within 0.5 s"
        assert time.monotonic() - began < 3


def test_what_was_said_shows_no_piece_of_a_secret_url() -> None:
    url = "slack://T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazk/?x=y"
    said = without_secrets("slack: POST T1JJ3T3L2 to /A1BRTD4JD/TIiajkdnlazk failed", url)
    assert said == "slack: POST *** to /***/*** failed"

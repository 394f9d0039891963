"""Sends a message to one target, by apprise. It never raises and never hangs."""

import os
import re
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from typing import TYPE_CHECKING

from forge_assets.alerts_config import FROM_ENVIRONMENT
from resources.alert import Message
from resources.plain_text import sentence

if TYPE_CHECKING:
    from apprise import Apprise
    from apprise.logger import NotifyLogEntry

SECONDS = 10.0
_SECRET_LENGTH = 6
"""Pieces of a URL from the environment that are this long are not shown."""

Send = Callable[[str, Message], str]
"""Target, message -> why it did not arrive; "" when it did."""


class AppriseNotifier:
    """``seconds``: for one message. Targets as in forge.yaml."""

    def __init__(
        self, environment: Mapping[str, str] = os.environ, seconds: float = SECONDS
    ) -> None:
        self._environment = environment
        self._seconds = seconds

    def __call__(self, target: str, message: Message) -> str:
        """Why the message did not arrive, without a secret; "" when it did."""
        url = target
        if target.startswith(FROM_ENVIRONMENT):
            name = target.removeprefix(FROM_ENVIRONMENT)
            url = self._environment.get(name, "").strip()
            if not url:
                return f"the environment has no {name}"
        answer: Future[str] = Future()

        def send() -> None:
            try:
                answer.set_result(_send(url, message))
            except BaseException as error:
                answer.set_result(f"{type(error).__name__}: {error}")

        # Not an executor: at the end of the program it would wait for a thread that hangs.
        threading.Thread(target=send, name="send an alert", daemon=True).start()
        try:
            said = answer.result(self._seconds)
        except TimeoutError:
            return f"no answer within {self._seconds:g} s"
        return without_secrets(said, url) if url != target else sentence(said)


def without_secrets(said: str, url: str) -> str:
    """What apprise said, without any longer piece of the URL but its scheme."""
    pieces = re.split(r"[/:@?&=,\s]+", re.sub(r"[a-z]+://", " ", url))
    for piece in sorted(set(pieces), key=len, reverse=True):
        if len(piece) >= _SECRET_LENGTH:
            said = said.replace(piece, "***")
    return sentence(said)


def _send(url: str, message: Message) -> str:
    service = _service(url)
    if not len(service):
        return "holds no URL that apprise knows"
    if len(service) > 1:
        # One that is down would let the others be told again and again.
        return "holds several URLs; give each a variable of its own, `to` may name several"
    heard: list[str] = []

    def hear(entry: "NotifyLogEntry", _: object) -> None:
        heard.append(entry.message)

    result = service.notify(
        body=message.body, title=message.title, notify_type="failure", log_callback=hear
    )
    if result:
        return ""
    return heard[-1] if heard else "apprise does not say why"


def _service(url: str) -> "Apprise":
    """One after the other and on this thread: apprise's own pool would outlive the bound."""
    from apprise import Apprise, AppriseAsset

    service = Apprise(
        asset=AppriseAsset(async_mode=False, service_timeout=0, app_id="forge", app_desc="forge")
    )
    service.add(url)
    for target in service:
        # Apprise waits for 4 s; what arrived and was answered later would be sent again.
        target.socket_read_timeout = SECONDS - 1
    return service

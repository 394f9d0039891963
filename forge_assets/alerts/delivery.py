"""Sends what is due, within the time of a tick."""

import time
from collections.abc import Callable

from forge_assets.alerts.notifier import SECONDS, Send
from resources.alert import Message
from resources.alert_store import AlertStore, Delivery

LOG = "log"
"""The target when nothing is configured."""
AT_MOST = 20
"""Messages of one tick."""
TICK_SECONDS = 35.0
"""No message is begun later than this less what one may take; Dagster ends a tick after 60 s."""


def deliver(
    store: AlertStore,
    send: Send,
    tell: Callable[[str], None],
    warn: Callable[[str], None],
    clock: Callable[[], float] = time.monotonic,
) -> int:
    """Every message that is due, as far as time allows; how many arrived.

    A target that failed is left alone until the next tick, so that it does not hold up the others.
    """
    end = clock() + TICK_SECONDS - SECONDS
    down: list[str] = []
    arrived = 0
    for _ in range(AT_MOST):
        made = store.deliver(lambda target, message: _sent(send, warn, target, message), down)
        if made is None:
            break
        if made.said:
            down.append(made.target)
            warn(_failure(made))
        else:
            arrived += 1
            tell(f"told {made.target}: {made.message.title}")
        if clock() >= end:
            break
    return arrived


def _sent(send: Send, warn: Callable[[str], None], target: str, message: Message) -> str:
    if target == LOG:
        warn(f"alerts.to of forge.yaml names nobody to tell: {message.title}\n{message.body}")
        return ""
    return send(target, message)


def _failure(made: Delivery) -> str:
    then = "it is tried again" if made.again else "that was the last try"
    return f"{made.target} was not told '{made.message.title}': {made.said}; {then}"

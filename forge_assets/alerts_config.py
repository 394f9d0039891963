"""The section `alerts:` of forge.yaml: who is told of failed checks, runs and launches."""

import re
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field

from forge_assets.config_types import Section

FROM_ENVIRONMENT = "env:"
"""Before the name of the variable that holds the URL."""

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_SECRET_NAME = re.compile(r"token|secret|passw|pwd|auth|signature|api.?key|apikey|bearer", re.I)
_FIX = "write env:NAME, and set NAME to the URL in the environment"


def _target(value: str) -> str:
    """``env:NAME``, or a URL of apprise in which nobody finds a secret."""
    if value.startswith(FROM_ENVIRONMENT):
        name = value.removeprefix(FROM_ENVIRONMENT)
        if not _VARIABLE.fullmatch(name):
            raise ValueError(f"'{value}' names no environment variable; write env:SLACK_URL")
        return value
    _refuse_secrets(value)
    return value


def _refuse_secrets(url: str) -> None:
    """ValueError, which shows no part of the URL but its scheme."""
    from apprise import Apprise  # half a second, and only where a URL stands in the file

    scheme = url.partition("://")[0]
    made = Apprise.instantiate(url) if "://" in url else None
    if made is None:
        shown = scheme if re.fullmatch(r"[a-z]{1,20}", scheme) else "this"
        raise ValueError(
            f"{shown}: is no URL that apprise knows; write one such as json://HOST:PORT/PATH, or"
            " env:NAME for one in the environment"
        )
    # apprise hides what each service takes for a secret: a token of Slack is a piece of the path.
    shown_to_others, whole = made.url(privacy=True), made.url(privacy=False)
    query = urlsplit(url).query
    named = any(_SECRET_NAME.search(part.partition("=")[0]) for part in query.split("&"))
    if shown_to_others != whole or named:
        raise ValueError(f"a {scheme} URL with a password or token does not belong here; {_FIX}")


def _base_url(value: str) -> str:
    parts = urlsplit(value)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
        raise ValueError("should be where people open Dagster, such as http://127.0.0.1:3000")
    if parts.username is not None or parts.password is not None:
        raise ValueError("has a user or password in it; leave them out")
    return value.rstrip("/")


Target = Annotated[str, AfterValidator(_target)]
BaseUrl = Annotated[str, AfterValidator(_base_url)]


class AlertsConfig(Section):
    """Who is told of failed checks, failed runs and failed launches."""

    to: tuple[Target, ...] = Field(
        default=(),
        description="`env:NAME` of a variable that holds an apprise URL, or such a URL without a"
        " secret. With nothing here the sensors only write into their log.",
    )
    base_url: BaseUrl | None = Field(
        default=None,
        description="Where people open Dagster, such as `http://127.0.0.1:3000`, for the link.",
    )
    warnings: bool = Field(
        default=True, description="Also tell of runs whose only failed checks warn."
    )

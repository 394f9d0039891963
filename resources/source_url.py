"""Database URLs as users write them: read strictly, shown without anything that may be secret."""

import re
from typing import TYPE_CHECKING
from urllib.parse import quote, quote_plus

if TYPE_CHECKING:
    import sqlalchemy as sa

_USER_PART = re.compile(r"[^:/]*(?::[^@]*)?@")
"""User and password as SQLAlchemy finds them: the password ends at the first '@'."""

_SHOWN_PARAMETERS = frozenset(
    {"host", "hostaddr", "port", "dbname", "user", "service", "options", "sslmode"}
    | {"target_session_attrs", "connect_timeout", "application_name", "charset", "driver"}
    | {"uri", "mode", "cache", "immutable"}
)
"""What says which database it is and how it is reached. Any other parameter may be a secret."""


def parse_url(text: str) -> "sa.URL":
    """ValueError, the predicate of a sentence that shows no part of the URL, when it is none."""
    import sqlalchemy as sa  # loading forge.yaml stays cheap

    try:
        url = sa.make_url(text)
    except (sa.exc.ArgumentError, ValueError):
        raise ValueError(
            "is not a URL: write driver://USER:PASSWORD@HOST:PORT/DATABASE, special characters of"
            " the password as %XX"
        ) from None
    rest = text.partition("://")[2]
    user_part = _USER_PART.match(rest)
    if user_part is not None:
        rest = rest[user_part.end() :]
    # An '@' after the user part is a piece of the password that would be taken for the host.
    if "@" in rest and not (url.drivername.startswith("sqlite") and rest.startswith("/")):
        raise ValueError(
            "has an '@' after the one that ends the password: percent-encode the password"
            " ('@' as %40, '/' as %2F, ':' as %3A)"
        )
    for part in (url.username, url.password, url.host, url.database, *_values(url)):
        if not _storable(part or ""):
            raise ValueError("holds a NUL character, or text that is not UTF-8: remove it")
    return url


def shown_url(url: "sa.URL") -> str:
    """The URL as it was written, without its password and without parameters that may be secret.

    The name of a SQL dataset is made of it: results are found again by this text.
    """
    user = f"{url.username}@" if url.username is not None else ""
    host = f"[{url.host}]" if url.host and ":" in url.host else url.host or ""
    port = f":{url.port}" if url.port is not None else ""
    database = f"/{url.database}" if url.database is not None else ""
    parameters = [
        f"{name}={value}"
        for name, values in url.normalized_query.items()
        if name in _SHOWN_PARAMETERS
        for value in values
    ]
    query = f"?{'&'.join(parameters)}" if parameters else ""
    return f"{url.drivername}://{user}{host}{port}{database}{query}"


def redacted(text: str, url: "sa.URL") -> str:
    """What a driver said, without the secrets of the URL however it spells them."""
    secrets = {value for value in (url.password, *_values(url, hidden=True)) if value}
    spellings = {
        spelling
        for secret in map(str, secrets)
        for spelling in (
            secret,
            quote(secret, safe=" +"),
            quote(secret),
            quote_plus(secret),
            repr(secret)[1:-1],
            secret.replace("\\", "\\\\").replace("'", "\\'"),
        )
    }
    for spelling in sorted(spellings, key=len, reverse=True):
        text = text.replace(spelling, "***")
    return text


def _values(url: "sa.URL", hidden: bool = False) -> list[str]:
    """The values of the query; ``hidden``: only of parameters that are not shown."""
    return [
        value
        for name, values in url.normalized_query.items()
        if not (hidden and name in _SHOWN_PARAMETERS)
        for value in values
    ]


def _storable(text: str) -> bool:
    try:
        return b"\0" not in text.encode()
    except UnicodeEncodeError:  # bytes of the environment that are not UTF-8
        return False

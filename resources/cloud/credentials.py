"""Who asks Google, and for which project; nobody where the endpoint is a local fake."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from resources.errors import ConfigurationError

SCOPE = "https://www.googleapis.com/auth/cloud-platform"
ENDPOINTS = (
    "VERTEX_EMULATOR_HOST",
    "CLOUD_RUN_EMULATOR_HOST",
    "CLOUD_BUILD_EMULATOR_HOST",
    "CLOUD_LOGGING_EMULATOR_HOST",
)


_PROJECT = re.compile(r"[a-z0-9.:-]+")
_LAST_PORT = 65535


@dataclass(frozen=True, slots=True)
class Access:
    """``fakes``: host:port by endpoint variable; such a host gets plain text and no credentials."""

    project: str
    credentials: Any
    fakes: Mapping[str, str]


def fakes(environment: Mapping[str, str]) -> dict[str, str]:
    """The endpoint variables that are set. ConfigurationError for one that is not host:port."""
    found = {name: fake_address(name, environment) for name in ENDPOINTS}
    return {name: address for name, address in found.items() if address}


def fake_address(name: str, environment: Mapping[str, str]) -> str | None:
    """The host:port of one endpoint variable, None when it is not set."""
    address = environment.get(name) or None
    found = re.fullmatch(r"(?:[\w.-]+|\[[0-9a-fA-F:]+\]):(\d{1,5})", address or "")
    if address and not (found and int(found[1]) <= _LAST_PORT):
        raise ConfigurationError(f"{name} is {address!r}: set it to host:port, without http://")
    return address


def access(
    project: str | None, environment: Mapping[str, str], apis: Iterable[str] = ENDPOINTS
) -> Access:
    """Application Default Credentials for ``apis``, named by their endpoint variables.

    ``project``: of forge.yaml; None takes GOOGLE_CLOUD_PROJECT, then that of the credentials.
    ConfigurationError when there is no project, or no credentials and an API that needs them.
    """
    local = fakes(environment)
    credentials, found = (None, None) if set(apis) <= set(local) else _default()
    project = project or environment.get("GOOGLE_CLOUD_PROJECT") or found
    if not project:
        raise ConfigurationError(
            "no Google Cloud project: set cloud.project in forge.yaml, or GOOGLE_CLOUD_PROJECT"
        )
    if not _PROJECT.fullmatch(project):
        raise ConfigurationError(
            f"GOOGLE_CLOUD_PROJECT is {project!r}: set it to a project's id, small letters, digits and '-'"
        )
    return Access(project, credentials, local)


def _default() -> tuple[Any, str | None]:
    import google.auth
    from google.auth.exceptions import GoogleAuthError

    try:
        return google.auth.default(scopes=[SCOPE])
    except (GoogleAuthError, OSError, ValueError) as error:
        reason = str(error).split(". ", 1)[0].rstrip(".")
        raise ConfigurationError(
            f"no Google credentials ({reason}): run `gcloud auth application-default login`, "
            "or set GOOGLE_APPLICATION_CREDENTIALS to a key file"
        ) from error

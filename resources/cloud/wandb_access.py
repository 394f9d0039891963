"""Which W&B server is asked, and with which key."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import httpx

from resources.errors import ConfigurationError

DEFAULT_BASE_URL = "https://api.wandb.ai"

# Keys of the cloud have 40 characters or more, those of an own server a prefix and a hyphen before.
_KEY = re.compile(r"[A-Za-z0-9_-]{40,}|[\w-]+\.[\w-]+\.[\w-]+", re.ASCII)


@dataclass(frozen=True, slots=True)
class WandbAccess:
    """``base_url``: without a slash at its end."""

    base_url: str
    key: str = field(repr=False)

    @property
    def app_url(self) -> str:
        """Where a person looks at runs."""
        if self.base_url == DEFAULT_BASE_URL:
            return "https://wandb.ai"
        return self.base_url.replace("://api.", "://app.", 1)


def wandb_access(environment: Mapping[str, str]) -> WandbAccess:
    """WANDB_API_KEY and WANDB_BASE_URL. ConfigurationError when one cannot be right."""
    base_url = (environment.get("WANDB_BASE_URL") or DEFAULT_BASE_URL).strip().rstrip("/")
    _check_url(base_url)
    key = environment.get("WANDB_API_KEY", "").strip()
    if not key:
        raise ConfigurationError("no W&B key: set WANDB_API_KEY to a key of your W&B user settings")
    if not _KEY.fullmatch(key):
        raise ConfigurationError(
            f"WANDB_API_KEY is no W&B key (40 or more letters, digits, - and _; it has {len(key)} "
            "characters): copy it again from your W&B user settings"
        )
    return WandbAccess(base_url, key)


def _check_url(url: str) -> None:
    fix = f"set it to the server's address, such as {DEFAULT_BASE_URL}"
    try:
        parts = urlsplit(url)
        # The port is checked by reading it, the name by what will look it up.
        _ = parts.port
        sound = httpx.URL(url).scheme in ("http", "https") and bool(parts.hostname)
    except (ValueError, httpx.InvalidURL):
        sound = False
    if not sound or re.search(r"\s", url):
        raise ConfigurationError(f"WANDB_BASE_URL is not an http(s) address: {fix}")
    if "@" in parts.netloc or parts.query or parts.fragment:
        raise ConfigurationError(
            f"WANDB_BASE_URL holds more than an address (a user, a query or a fragment): {fix}"
        )

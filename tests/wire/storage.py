"""Cloud Storage on this machine: the true emulator, and a server that does what it cannot."""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import httpx
from gcp_storage_emulator.server import create_server

from tests.wire.http_faults import HttpFault, status
from tests.wire.http_server import HttpServer, Page, Visit

VARIABLE = "STORAGE_EMULATOR_HOST"


class Emulator:
    """It makes every bucket in US, allows everybody everything, and never fails."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.environment = {VARIABLE: url}

    def add(self, name: str, location: str = "US-CENTRAL1") -> None:
        buckets = f"{self.url}/storage/v1/b"
        httpx.post(buckets, json={"name": name}).raise_for_status()
        httpx.patch(f"{buckets}/{name}", json={"location": location}).raise_for_status()


@contextmanager
def emulator() -> Iterator[Emulator]:
    with create_server("127.0.0.1", 0, in_memory=True) as server:
        # It tells nowhere else which port it got.
        yield Emulator(f"http://127.0.0.1:{server._api._httpd.server_address[1]}")


class FakeStorage(HttpServer):
    """Reads alone. Faults: by the bucket's name, or ``testPermissions``."""

    def __init__(self) -> None:
        self._buckets: dict[str, Mapping[str, Any]] = {}
        self.permissions: Sequence[str] = ("storage.objects.create",)
        super().__init__()

    @property
    def url(self) -> str:
        return f"http://{self.address}"

    @property
    def environment(self) -> dict[str, str]:
        return {VARIABLE: self.url}

    def add(self, name: str, location: str = "US-CENTRAL1", **more: Any) -> None:
        self._buckets[name] = {"name": name, "location": location, **more}

    def page(self, visit: Visit) -> Page:
        name, _, rest = urlsplit(visit.path).path.removeprefix("/storage/v1/b/").partition("/")
        if name not in self._buckets:
            return Page(404, _error(404, "notFound", "The specified bucket does not exist."))
        found = {"permissions": self.permissions} if rest else self._buckets[name]
        return Page(200, json.dumps(found).encode(), {"Content-Type": "application/json"})


def denied(permission: str = "storage.buckets.get") -> HttpFault:
    said = (
        f"ada@example.com does not have {permission} access to the Google Cloud Storage bucket. "
        f"Permission '{permission}' denied on resource (or it may not exist)."
    )
    return status(403, _error(403, "forbidden", said).decode())


def _error(code: int, reason: str, message: str) -> bytes:
    """As Cloud Storage answers: without the ``status`` that Google's other REST APIs give."""
    errors = [{"message": message, "domain": "global", "reason": reason}]
    return json.dumps({"error": {"code": code, "message": message, "errors": errors}}).encode()

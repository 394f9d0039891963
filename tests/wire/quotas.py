"""A fake Service Usage: the quota metrics of one project's Vertex AI."""

import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote, urlsplit

from tests.wire.http_faults import HttpFault, answer
from tests.wire.http_server import HttpServer, Page, Visit

PREFIX = "/v1beta1/projects/demo/services/aiplatform.googleapis.com/consumerQuotaMetrics/"


class FakeServiceUsage(HttpServer):
    def __init__(self) -> None:
        self._limits: dict[str, list[dict[str, Any]]] = {}
        super().__init__()

    @property
    def environment(self) -> dict[str, str]:
        return {"SERVICE_USAGE_EMULATOR_HOST": self.address}

    def add(
        self, metric: str, by_region: Mapping[str, int], elsewhere: int = 0, unit: str = "{region}"
    ) -> None:
        """One more limit of a metric: its short name."""
        buckets = [_bucket(elsewhere, {})]
        buckets += [_bucket(value, {"region": name}) for name, value in by_region.items()]
        limit = {"unit": f"1/{{project}}/{unit}", "quotaBuckets": buckets}
        self._limits.setdefault(f"aiplatform.googleapis.com/{metric}", []).append(limit)

    def page(self, visit: Visit) -> Page:
        path = urlsplit(visit.path).path
        metric = unquote(path.removeprefix(PREFIX))
        # One metric is one part of the path: its slash must come encoded.
        if "/" in path.removeprefix(PREFIX) or metric not in self._limits:
            return Page(404, error(404, "NOT_FOUND", f"no metric {metric}"))
        found = {"metric": metric, "consumerQuotaLimits": self._limits[metric]}
        return Page(200, json.dumps(found).encode())


def _bucket(value: int, dimensions: Mapping[str, str]) -> dict[str, Any]:
    """As protobuf's JSON: 64 bits as text, and what is 0 or empty is left out."""
    bucket: dict[str, Any] = {"effectiveLimit": str(value)} if value else {}
    return bucket | ({"dimensions": dict(dimensions)} if dimensions else {})


def error(code: int, status: str, message: str, reason: str = "") -> bytes:
    """As Google's REST APIs answer."""
    details = [{"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": reason}]
    told = {"code": code, "status": status, "message": message}
    return json.dumps({"error": told | ({"details": details} if reason else {})}).encode()


def denied() -> HttpFault:
    said = error(
        403, "PERMISSION_DENIED", "serviceusage.quotas.get denied", "AUTH_PERMISSION_DENIED"
    )
    return HttpFault(403, said)


def garbage() -> HttpFault:
    return answer(b"<html>")

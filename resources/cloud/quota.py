"""The quota of custom training: how many accelerators a project may use at once in a region."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import httpx

from resources.cloud import rest
from resources.cloud.credentials import Access

VARIABLE = "SERVICE_USAGE_EMULATOR_HOST"

_SERVICE = "aiplatform.googleapis.com"
_HOST = "https://serviceusage.googleapis.com"

# Vertex AI's own; Compute Engine's quota of the same accelerator is another number. The names are
# those that rejections and Google's own examples hold:
# https://docs.cloud.google.com/vertex-ai/docs/quotas
_METRICS: Mapping[str, str] = {
    "NVIDIA_TESLA_P4": "nvidia_p4_gpus",
    "NVIDIA_TESLA_P100": "nvidia_p100_gpus",
    "NVIDIA_TESLA_T4": "nvidia_t4_gpus",
    "NVIDIA_TESLA_V100": "nvidia_v100_gpus",
    "NVIDIA_L4": "nvidia_l4_gpus",
    "NVIDIA_TESLA_A100": "nvidia_a100_gpus",
    "NVIDIA_A100_80GB": "nvidia_a100_80gb_gpus",
    "NVIDIA_H100_80GB": "nvidia_h100_gpus",
    "NVIDIA_H100_MEGA_80GB": "nvidia_h100_mega_gpus",
    "NVIDIA_H200_141GB": "nvidia_h200_gpus",
}


UNLIMITED = 2**63 - 1


@dataclass(frozen=True, slots=True)
class Limit:
    """``by_region``: where a region has a number of its own; ``elsewhere``: in all others."""

    by_region: Mapping[str, int]
    elsewhere: int | None

    def of(self, region: str) -> int | None:
        return self.by_region.get(region, self.elsewhere)


@dataclass(frozen=True, slots=True)
class Limits:
    """All of one metric."""

    metric: str
    limits: Sequence[Limit]

    def of(self, region: str) -> int | None:
        """The smallest; UNLIMITED when there is none, None when it is not told."""
        told = [limit.of(region) for limit in self.limits]
        return min((value for value in told if value is not None), default=None)


def metric(accelerator: str, preemptible: bool) -> str | None:
    """``preemptible``: of spot and of flex-start. None for an accelerator whose metric is not known."""
    found = _METRICS.get(accelerator)
    if found is None:
        return None
    return f"{_SERVICE}/custom_model_training_{'preemptible_' if preemptible else ''}{found}"


class Quotas:
    """Of Service Usage, which every project has: Cloud Quotas would have to be enabled first.

    ``address``: host:port of a local one, which gets no credentials.
    """

    def __init__(
        self,
        access: Access,
        address: str | None = None,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self._project = access.project
        self._token = rest.GoogleToken(access)
        self._address = address
        self._client = httpx.Client(transport=transport)

    def limits(self, metric: str, seconds: float) -> Limits:
        """In all regions, by one request. CloudError; NotFound for a metric that is none."""
        answer = rest.within(seconds, "Service Usage", lambda end: self._ask(metric, end))
        found = _rows(answer.json().get("consumerQuotaLimits"))
        return Limits(metric, tuple(_limit(row) for row in found))

    def _ask(self, metric: str, end: float) -> rest.Answer:
        host = _HOST if self._address is None else f"http://{self._address}"
        headers = self._token.headers() if self._address is None else {}
        # One metric: all of Vertex AI's with a bucket for each region are some megabytes.
        name = f"projects/{self._project}/services/{_SERVICE}/consumerQuotaMetrics"
        url = f"{host}/v1beta1/{name}/{quote(metric, safe='')}?view=FULL"
        return rest.get(self._client, url, headers, end, "Service Usage")


def _limit(read: Mapping[str, Any]) -> Limit:
    by_region: dict[str, int] = {}
    elsewhere = None
    for bucket in _rows(read.get("quotaBuckets")):
        value = _value(bucket)
        dimensions = bucket.get("dimensions") or {}
        if value is None or set(dimensions) - {"region"}:
            continue
        if dimensions:
            by_region[str(dimensions["region"])] = value
        else:
            elsewhere = value
    return Limit(by_region, elsewhere)


def _rows(value: Any) -> Sequence[Mapping[str, Any]]:
    return [row for row in value if isinstance(row, Mapping)] if isinstance(value, list) else []


def _value(bucket: Mapping[str, Any]) -> int | None:
    """JSON has 64 bits as text, -1 for no limit, and leaves 0 out."""
    try:
        value = int(bucket.get("effectiveLimit", 0))
    except (TypeError, ValueError):
        return None
    return UNLIMITED if value < 0 else value

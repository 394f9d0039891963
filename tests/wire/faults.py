"""What the fake Google does wrong, by call and by region."""

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import grpc
from google.protobuf.duration_pb2 import Duration
from google.rpc.error_details_pb2 import ErrorInfo, RetryInfo

ANY = "*"


class WireError(Exception):
    """A status instead of an answer."""

    def __init__(self, code: grpc.StatusCode, message: str, *details: Any) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.details = details


@dataclass(frozen=True)
class Fault:
    """``seconds``: latency; ``applied``: the call has its effect and only the answer is lost."""

    error: WireError | None = None
    seconds: float = 0.0
    hangs: bool = False
    applied: bool = False
    second_page: bool = False
    """Only a call that brings a page token."""


def latency(seconds: float) -> Fault:
    return Fault(seconds=seconds)


def hang() -> Fault:
    """No answer before the caller gives up or the server is closed."""
    return Fault(hangs=True)


def denied(permission: str = "aiplatform.customJobs.list") -> Fault:
    info = ErrorInfo(
        reason="IAM_PERMISSION_DENIED",
        domain="aiplatform.googleapis.com",
        metadata={"permission": permission},
    )
    said = f"Permission '{permission}' denied on resource (or it may not exist)."
    return Fault(WireError(grpc.StatusCode.PERMISSION_DENIED, said, info))


def throttled(retry_seconds: float = 30) -> Fault:
    whole = int(retry_seconds)
    delay = Duration(seconds=whole, nanos=int((retry_seconds - whole) * 1e9))
    info = ErrorInfo(reason="RATE_LIMIT_EXCEEDED", domain="googleapis.com")
    return Fault(
        WireError(
            grpc.StatusCode.RESOURCE_EXHAUSTED,
            "Quota exceeded for quota metric 'Read requests' and limit "
            "'Read requests per minute' of service 'aiplatform.googleapis.com'",
            info,
            RetryInfo(retry_delay=delay),
        )
    )


def over_quota() -> Fault:
    """The answer to a create for which the project has no accelerators left."""
    said = (
        "The following quota metrics exceed quota limits: "
        "aiplatform.googleapis.com/custom_model_training_nvidia_t4_gpus"
    )
    return Fault(WireError(grpc.StatusCode.RESOURCE_EXHAUSTED, said))


def internal() -> Fault:
    return Fault(WireError(grpc.StatusCode.INTERNAL, "Internal error encountered."))


def unavailable() -> Fault:
    return Fault(WireError(grpc.StatusCode.UNAVAILABLE, "The service is currently unavailable."))


def lost_answer() -> Fault:
    """A gateway's 502 after the work was done, as gRPC shows it."""
    error = WireError(grpc.StatusCode.UNAVAILABLE, "Received http2 header with status: 502")
    return Fault(error, applied=True)


def second_page() -> Fault:
    return Fault(unavailable().error, second_page=True)


def wrong_region() -> Fault:
    return Fault(
        WireError(
            grpc.StatusCode.INVALID_ARGUMENT,
            "The provided location ID doesn't match the endpoint. The valid location ID is `x`.",
        )
    )


@dataclass
class _Planned:
    fault: Fault
    call: str
    region: str
    left: int | None


@dataclass
class Faults:
    _planned: list[_Planned] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def add(
        self, fault: Fault, call: str = ANY, region: str = ANY, times: int | None = None
    ) -> None:
        """``call``: an RPC's name (``ListCustomJobs``); ``times``: None for every time."""
        with self._lock:
            self._planned.append(_Planned(fault, call, region, times))

    def clear(self) -> None:
        with self._lock:
            self._planned.clear()

    def of(self, call: str, region: str, page: bool) -> Sequence[Fault]:
        """Those that a call meets, in the order they were added; each is used up by one."""
        met = []
        with self._lock:
            for planned in self._planned:
                if planned.call not in (ANY, call) or planned.region not in (ANY, region):
                    continue
                if planned.left == 0 or (planned.fault.second_page and not page):
                    continue
                if planned.left is not None:
                    planned.left -= 1
                met.append(planned.fault)
        return met

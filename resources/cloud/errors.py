"""What Google's APIs answer when they do not do what was asked, in the API's own words."""

import re
from collections.abc import Iterable
from typing import Any

from resources.cloud.wire_values import cut
from resources.errors import InfrastructureError


class CloudError(InfrastructureError):
    """A remote call failed; the message is the API's own.

    ``code``: the gRPC name of the status, "" when the call did not get that far. ``reason``: the
    API's word for the cause (``IAM_PERMISSION_DENIED``), "" when it gave none. ``retry_after``:
    seconds the API asked to wait, None when it asked for nothing.
    """

    def __init__(
        self, message: str, code: str = "", reason: str = "", retry_after: float | None = None
    ) -> None:
        super().__init__(cut(message or code or "no message"))
        self.code = code
        self.reason = reason
        self.retry_after = retry_after


class Denied(CloudError):
    """No credentials that the API accepts, a permission is missing, or the API is disabled."""


class Throttled(CloudError):
    """Too many requests of ours: never a failure of a job."""


class TimedOut(CloudError):
    """No answer before the deadline. A create may have been applied."""


class Unavailable(CloudError):
    """The service failed, or nothing tells what it did. A create may have been applied."""


class NotFound(CloudError):
    """There is no such thing."""


class Refused(CloudError):
    """The request is wrong: the same again gets the same answer."""


class OverQuota(Refused):
    """The project's quota or the region's stock does not allow it; waiting a minute changes nothing."""


_KINDS: dict[str, type[CloudError]] = {
    "UNAUTHENTICATED": Denied,
    "PERMISSION_DENIED": Denied,
    "RESOURCE_EXHAUSTED": Throttled,
    "DEADLINE_EXCEEDED": TimedOut,
    "NOT_FOUND": NotFound,
    "INVALID_ARGUMENT": Refused,
    "FAILED_PRECONDITION": Refused,
    "OUT_OF_RANGE": Refused,
    "ALREADY_EXISTS": Refused,
    "UNIMPLEMENTED": Refused,
}

# Vertex AI refuses a job with the code that also says "too many requests".
_ALLOCATION = re.compile(r"exceed quota limits|insufficient in region", re.IGNORECASE)


def from_google(error: Exception) -> CloudError | None:
    """None for what Google's libraries did not raise: a mistake of ours."""
    from google.api_core.exceptions import GoogleAPICallError
    from google.auth.exceptions import GoogleAuthError

    if isinstance(error, GoogleAPICallError):
        code = error.grpc_status_code.name if error.grpc_status_code else ""
        kind = _KINDS.get(code, Unavailable)
        if kind is Throttled and _ALLOCATION.search(error.message or ""):
            kind = OverQuota
        # gRPC calls a token that could not be had UNAVAILABLE, though no request was sent.
        if code == "UNAVAILABLE" and "metadata from plugin failed" in (error.message or ""):
            kind = Denied
        return kind(error.message or "", code, error.reason or "", _retry_after(error.details))
    return Denied(str(error)) if isinstance(error, GoogleAuthError) else None


def _retry_after(details: Iterable[Any]) -> float | None:
    for detail in details:
        delay = getattr(detail, "retry_delay", None)
        if delay is not None:
            return float(delay.seconds) + float(delay.nanos) / 1e9
    return None

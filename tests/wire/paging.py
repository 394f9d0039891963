"""One page of a list, with a token for the next."""

from collections.abc import Sequence
from typing import TypeVar

import grpc

from tests.wire.faults import WireError

T = TypeVar("T")


def page(items: Sequence[T], size: int, token: str, usual: int = 100) -> tuple[list[T], str]:
    """``usual``: the page size of a request without one, and the largest."""
    if token and not token.isdecimal():
        raise WireError(grpc.StatusCode.INVALID_ARGUMENT, "The page token is invalid.")
    start = int(token or 0)
    end = start + min(size or usual, usual)
    return list(items[start:end]), str(end) if end < len(items) else ""

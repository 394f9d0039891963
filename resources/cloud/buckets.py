"""Buckets of Cloud Storage: whether one is there, where, and whether we may write to it."""

import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from resources.cloud import rest
from resources.cloud.credentials import Access
from resources.cloud.errors import CloudError, TimedOut, Unavailable, from_google
from resources.errors import ConfigurationError

VARIABLE = "STORAGE_EMULATOR_HOST"
WRITE = "storage.objects.create"

_WHO = "Cloud Storage"
_NO_OBJECT = f"{_WHO} answered with something that is no JSON object"
_REGION = re.compile(r"[a-z]+-[a-z]+\d+")
# Of the places that are larger than a region, less their number: NAM4 is one of NAM.
_CONTINENTS: Mapping[str, str] = {
    "us": "us-",
    "nam": "us-",
    "eu": "europe-",
    "eur": "europe-",
    "asia": "asia-",
}


@dataclass(frozen=True, slots=True)
class BucketPlace:
    """``location``: in small letters, a region or a larger place such as ``us``; "" if not told.

    ``regions``: of a place that was put together of regions. ``may_write``: None when not told.
    """

    name: str
    location: str
    regions: Sequence[str] = ()
    may_write: bool | None = None

    def is_near(self, region: str) -> bool | None:
        """Whether ``region`` is in the bucket's location, or on its continent where that is larger
        than a region; None for a place that is not known here."""
        if self.regions:
            return region in self.regions
        if _REGION.fullmatch(self.location):
            return region == self.location
        continent = _CONTINENTS.get(self.location.rstrip("0123456789"))
        return None if continent is None else region.startswith(continent)


def bucket_name(path: str) -> str:
    """``path``: gs://BUCKET or gs://BUCKET/FOLDER."""
    return path.removeprefix("gs://").partition("/")[0]


def emulator(environment: Mapping[str, str]) -> str | None:
    """The emulator's URL, None when it is not set. ConfigurationError for what is no URL."""
    address = environment.get(VARIABLE) or None
    if address and not re.fullmatch(r"https?://[^\s/]+/?", address):
        raise ConfigurationError(f"{VARIABLE} is {address!r}: set it to http://host:port")
    return address.rstrip("/") if address else None


class Buckets:
    """By Google's own client. ``address``: URL of an emulator, which gets no credentials."""

    def __init__(self, access: Access, address: str | None = None) -> None:
        # Here and not in the first call, whose deadline it would eat.
        from google.auth.credentials import AnonymousCredentials
        from google.cloud.storage import Client  # type: ignore[import-untyped]

        if address is None:
            self._client = Client(access.project, access.credentials)
        else:
            options = {"api_endpoint": address}
            nobody = AnonymousCredentials()
            self._client = Client(access.project, nobody, client_options=options)

    def bucket(self, name: str, seconds: float) -> BucketPlace:
        """By two requests, repeated only with a new token for one that was too old.

        CloudError; NotFound, or Denied to who may not read it.
        """
        return rest.within(seconds, _WHO, lambda end: self._bucket(name, end))

    def _bucket(self, name: str, end: float) -> BucketPlace:
        bucket = self._client.bucket(name)
        _sent(bucket.reload, end)
        try:
            location = str(bucket.location or "").lower()
            regions = tuple(str(region).lower() for region in bucket.data_locations or ())
        except AttributeError:  # the client takes any JSON for a bucket
            raise Unavailable(_NO_OBJECT) from None
        return BucketPlace(name, location, regions, self._may_write(bucket, end))

    def _may_write(self, bucket: Any, end: float) -> bool | None:
        try:
            return WRITE in _sent(bucket.test_iam_permissions, end, [WRITE])
        except (CloudError, AttributeError):
            return None


def _sent(method: Any, end: float, *args: Any) -> Any:
    """One request. CloudError for all that is not an answer."""
    import requests
    from google.api_core.exceptions import GoogleAPICallError
    from google.auth.exceptions import TransportError

    try:
        return method(*args, timeout=max(0.001, end - time.monotonic()), retry=None)
    except (requests.Timeout, TimeoutError) as error:
        raise TimedOut(f"{_WHO} gave no answer in time") from error
    except GoogleAPICallError as error:
        raise _failure(error) from error
    except TransportError as error:
        raise Unavailable(f"no token for Google's APIs: {error}") from error
    except requests.exceptions.JSONDecodeError as error:
        raise Unavailable(_NO_OBJECT) from error
    except requests.RequestException as error:
        raise Unavailable(f"{_WHO} did not answer: {error}") from error
    except Exception as error:
        told = from_google(error)
        if told is None:
            raise
        raise told from error


def _failure(error: Any) -> CloudError:
    """By HTTP's status: the client's errors of HTTP, 403 among them, have no code of gRPC."""
    response = error.response
    if response is None:
        return from_google(error) or Unavailable(str(error))
    answer = rest.Answer(_WHO, response.status_code, response.headers, response.content)
    return answer.failure() or Unavailable(str(error))

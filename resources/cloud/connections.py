"""Channels to Google's APIs: made on first use, kept, a deadline and a limit on every call."""

import os
import threading
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from resources.cloud.credentials import SCOPE, Access
from resources.cloud.errors import TimedOut, from_google
from resources.cloud.token_bucket import Limiter


@dataclass(frozen=True, slots=True)
class Api:
    """``host`` may hold ``{region}``; ``per_minute``: what we allow ourselves per region and method."""

    name: str
    host: str
    variable: str
    per_minute: float
    burst: float


# Google allows 600 requests a minute and region to Vertex AI, 60 log reads a minute and project.
VERTEX = Api("Vertex AI", "{region}-aiplatform.googleapis.com", "VERTEX_EMULATOR_HOST", 240, 60)
CLOUD_RUN = Api("Cloud Run", "run.googleapis.com", "CLOUD_RUN_EMULATOR_HOST", 120, 30)
CLOUD_BUILD = Api("Cloud Build", "cloudbuild.googleapis.com", "CLOUD_BUILD_EMULATOR_HOST", 60, 20)
LOGGING = Api("Cloud Logging", "logging.googleapis.com", "CLOUD_LOGGING_EMULATOR_HOST", 20, 20)


class Connections:
    """To one API. Safe to share between threads; make it after a fork, not before."""

    def __init__(
        self, api: Api, access: Access, clock: Callable[[], float] = time.monotonic
    ) -> None:
        # Read when gRPC is imported. Or it writes lines of its own between ours, one for every
        # connection that a server ends.
        os.environ.setdefault("GRPC_VERBOSITY", "NONE")
        # A state to come is told by us, where it matters.
        warnings.filterwarnings("ignore", message="Unrecognized .* enum value")
        self._api = api
        self._access = access
        self._limiter = Limiter(api.per_minute, api.burst, clock)
        self._lock = threading.Lock()
        self._channels: dict[str, Any] = {}
        self._clients: dict[tuple[str, type], Any] = {}

    @property
    def project(self) -> str:
        return self._access.project

    def client(self, region: str, client: type, transport: type) -> Any:
        """The kept ``client`` of a region's host."""
        host = self._api.host.format(region=region)
        with self._lock:
            if (host, client) not in self._clients:
                if host not in self._channels:
                    self._channels[host] = self._channel(host)
                self._clients[host, client] = client(
                    transport=transport(channel=self._channels[host])
                )
            return self._clients[host, client]

    def call(self, region: str, method: Callable[..., Any], request: Any, seconds: float) -> Any:
        """One request, sent once. CloudError when it fails or has no answer within ``seconds``."""
        if seconds <= 0:
            raise TimedOut("no time left for the call")
        refusal = f"{self._api.name} is not asked again in {region}"
        with self._limiter.request((region, method.__name__), refusal):
            try:
                return method(request=request, timeout=seconds, retry=None)
            except Exception as error:
                told = from_google(error)
                if told is None:
                    raise
                if isinstance(told, TimedOut):
                    said = f"{self._api.name} gave no answer to {method.__name__} within {seconds:.1f} s"
                    told = TimedOut(said, told.code)
                raise told from error

    def _channel(self, host: str) -> Any:
        import grpc  # type: ignore[import-untyped]
        from google.api_core import grpc_helpers

        options = [("grpc.max_receive_message_length", -1)]
        fake = self._access.fakes.get(self._api.variable)
        if fake:
            # The fake reads there which regional host was meant.
            return grpc.insecure_channel(fake, [*options, ("grpc.default_authority", host)])
        return grpc_helpers.create_channel(
            f"{host}:443",
            credentials=self._access.credentials,
            default_scopes=[SCOPE],
            quota_project_id=getattr(self._access.credentials, "quota_project_id", None),
            options=options,
        )

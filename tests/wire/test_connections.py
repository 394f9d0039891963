"""Without a fake the channel is Google's, with credentials and TLS."""

import socket
import threading

import pytest
from google.auth.credentials import AnonymousCredentials
from google.cloud.aiplatform_v1.services.job_service import JobServiceClient
from google.cloud.aiplatform_v1.services.job_service.transports.grpc import JobServiceGrpcTransport

from resources.cloud.connections import VERTEX, Connections
from resources.cloud.credentials import Access
from resources.cloud.errors import CloudError, Denied, TimedOut, Unavailable, from_google

PARENT = {"parent": "projects/demo/locations/us-central1"}


def test_a_tls_handshake_is_what_a_real_host_gets(monkeypatch: pytest.MonkeyPatch) -> None:
    from google.api_core import grpc_helpers

    heard: list[bytes] = []
    asked: list[str] = []
    real = grpc_helpers.create_channel
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(10)

        def listen() -> None:
            peer, _ = server.accept()
            with peer:
                heard.append(peer.recv(3))

        def to_the_listener(target: str, **more: object) -> object:
            asked.append(target)
            return real(f"127.0.0.1:{server.getsockname()[1]}", **more)

        monkeypatch.setattr(grpc_helpers, "create_channel", to_the_listener)
        thread = threading.Thread(target=listen)
        thread.start()
        connections = Connections(VERTEX, Access("demo", AnonymousCredentials(), {}))
        client = connections.client("us-central1", JobServiceClient, JobServiceGrpcTransport)
        with pytest.raises((Unavailable, TimedOut)):
            connections.call("us-central1", client.list_custom_jobs, PARENT, 2)
        thread.join()
    assert asked == ["us-central1-aiplatform.googleapis.com:443"]
    # A TLS record of the kind handshake.
    assert heard[0][:2] == b"\x16\x03"


def test_no_time_left_is_a_timeout_without_a_call() -> None:
    connections = Connections(VERTEX, Access("demo", None, {}))
    with pytest.raises(TimedOut):
        connections.call("us-central1", print, PARENT, 0)


def test_a_login_that_expired_is_denied_not_unavailable() -> None:
    from google.api_core.exceptions import ServiceUnavailable, from_grpc_status
    from google.auth.exceptions import RefreshError
    from grpc import StatusCode

    plugin = "Getting metadata from plugin failed with error: Reauthentication is needed."
    assert isinstance(from_google(from_grpc_status(StatusCode.UNAVAILABLE, plugin)), Denied)
    assert isinstance(from_google(RefreshError("expired")), Denied)
    assert isinstance(from_google(ServiceUnavailable("busy")), CloudError)
    assert from_google(KeyError("ours")) is None

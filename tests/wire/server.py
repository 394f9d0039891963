"""A fake Google: the real gRPC protocol on a local socket, its messages those of the real clients."""

import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Protocol, Self

import grpc
from google.protobuf.any_pb2 import Any as AnyMessage
from google.rpc.status_pb2 import Status
from grpc_status.rpc_status import to_status

from tests.wire.builds import FakeBuilds
from tests.wire.faults import Faults, WireError
from tests.wire.jobs import FakeJobs
from tests.wire.logs import FakeLogs
from tests.wire.runs import FakeRuns

PATIENCE_SECONDS = 60
Clock = Callable[[], datetime]


class Service(Protocol):
    """A noun: its RPCs by transport class, each named as the client's method."""

    def rpcs(self) -> Mapping[type, Mapping[str, Callable[[Any], Any]]]: ...


@dataclass(frozen=True)
class Call:
    """One request as it came. ``host``: the endpoint that the client meant."""

    name: str
    region: str
    host: str
    request: Any
    routing: str
    at: float


class FakeGoogle:
    """Vertex AI, Cloud Run, Cloud Build and Logging, with all regions behind one address."""

    def __init__(self, clock: Clock = lambda: datetime.now(UTC)) -> None:
        self.faults = Faults()
        self.calls: list[Call] = []
        self.jobs = FakeJobs(clock)
        self.runs = FakeRuns(clock)
        self.builds = FakeBuilds()
        self.logs = FakeLogs()
        self._closing = threading.Event()
        self._pool = ThreadPoolExecutor(max_workers=64)
        self._server = grpc.server(self._pool, handlers=[_Handler(self)])
        port = self._server.add_insecure_port("127.0.0.1:0")
        self.address = f"127.0.0.1:{port}"
        self._server.start()

    @property
    def environment(self) -> dict[str, str]:
        names = ("VERTEX", "CLOUD_RUN", "CLOUD_BUILD", "CLOUD_LOGGING")
        return {f"{name}_EMULATOR_HOST": self.address for name in names}

    def named(self, call: str) -> list[Call]:
        return [made for made in self.calls if made.name == call]

    def close(self) -> None:
        self._closing.set()
        self._server.stop(grace=None).wait()
        self._pool.shutdown()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def answer(
        self, name: str, work: Callable[[Any], Any], request: Any, context: grpc.ServicerContext
    ) -> Any:
        call = _call(name, request, context)
        self.calls.append(call)
        try:
            _check_endpoint(call)
            lost: WireError | None = None
            for fault in self.faults.of(name, call.region, bool(_text(request, "page_token"))):
                self._wait(fault.seconds, context)
                if fault.hangs:
                    self._wait(PATIENCE_SECONDS, context)
                if fault.applied:
                    lost = fault.error
                elif fault.error:
                    raise fault.error
            # An answer that nobody waits for any more: the work is done, as it is at Google.
            answer = work(request)
            if lost:
                raise lost
            return answer
        except WireError as error:
            context.abort_with_status(_status(error))

    def _wait(self, seconds: float, context: grpc.ServicerContext) -> None:
        gone = threading.Event()
        if not seconds or not context.add_callback(gone.set):
            return
        end = time.monotonic() + seconds
        while not gone.is_set() and not self._closing.is_set():
            left = end - time.monotonic()
            if left <= 0:
                break
            gone.wait(min(left, 0.05))


class _Handler(grpc.GenericRpcHandler):
    def __init__(self, google: FakeGoogle) -> None:
        self._methods = dict(_methods(google))

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler | None:
        return self._methods.get(details.method)


def _methods(google: FakeGoogle) -> Iterator[tuple[str, grpc.RpcMethodHandler]]:
    """Path and handler of every RPC: what the client's own transport would send."""
    services: tuple[Service, ...] = (google.jobs, google.runs, google.builds, google.logs)
    for service in services:
        for transport, rpcs in service.rpcs().items():
            recorder = _Recorder()
            made = transport(channel=recorder)
            # Its stubs lie behind an interceptor that tells nothing before a real call.
            made._logged_channel = recorder
            made._stubs.clear()
            for name, work in rpcs.items():
                sent = getattr(made, name)
                yield sent.path, _handler(google, sent.path, sent.request, work)


def _handler(
    google: FakeGoogle, path: str, request: Any, work: Callable[[Any], Any]
) -> grpc.RpcMethodHandler:
    name = path.rsplit("/", 1)[1]
    return grpc.unary_unary_rpc_method_handler(
        lambda message, context: google.answer(name, work, message, context),
        request_deserializer=request.deserialize,
        response_serializer=_serialized,
    )


@dataclass(eq=False)
class _Sent:
    path: str
    request: Any


class _Recorder(grpc.Channel):
    """A channel that calls nothing: it tells the path and the request's class."""

    def unary_unary(self, method: str, request_serializer: Any = None, *_: Any, **__: Any) -> Any:
        return _Sent(method, getattr(request_serializer, "__self__", None))

    unary_stream = stream_unary = stream_stream = unary_unary

    def subscribe(self, *_: Any, **__: Any) -> None: ...

    def unsubscribe(self, *_: Any) -> None: ...

    def close(self) -> None: ...


def _serialized(message: Any) -> bytes:
    plus = hasattr(type(message), "serialize")
    return type(message).serialize(message) if plus else message.SerializeToString()


def _call(name: str, request: Any, context: Any) -> Call:
    metadata = {item.key: item.value for item in context.invocation_metadata()}
    resource = _text(request, "parent") or _text(request, "name")
    if not resource and name == "UpdateJob":
        resource = request.job.name
    region = re.search(r"locations/([^/]+)", resource)
    return Call(
        name=name,
        region=region[1] if region else "global",
        host=context._rpc_event.call_details.host.decode(),
        request=request,
        routing=metadata.get("x-goog-request-params", ""),
        at=time.monotonic(),
    )


def _check_endpoint(call: Call) -> None:
    """Vertex AI takes a region's requests at that region's host only."""
    valid = call.host.removesuffix("-aiplatform.googleapis.com")
    if valid not in (call.host, call.region):
        raise WireError(
            grpc.StatusCode.INVALID_ARGUMENT,
            "The provided location ID doesn't match the endpoint. "
            f"The valid location ID is `{valid}`.",
        )


def _text(request: Any, name: str) -> str:
    return str(getattr(request, name)) if name in type(request).meta.fields else ""


def _status(error: WireError) -> grpc.Status:
    details = []
    for detail in error.details:
        details.append(AnyMessage())
        details[-1].Pack(detail)
    code = error.code.value[0]
    return to_status(Status(code=code, message=error.message, details=details))

"""Cloud Logging of the fake Google: entries with a text, JSON or audit payload."""

import re
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

import grpc
from google.api.monitored_resource_pb2 import MonitoredResource
from google.cloud.audit.audit_log_pb2 import AuditLog
from google.cloud.logging_v2.services.logging_service_v2.transports.grpc import (
    LoggingServiceV2GrpcTransport,
)
from google.cloud.logging_v2.types import ListLogEntriesRequest, ListLogEntriesResponse, LogEntry
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.struct_pb2 import Struct
from google.rpc.status_pb2 import Status

from tests.wire.aip_filter import parsed
from tests.wire.faults import WireError
from tests.wire.paging import page

RUN_STDERR = "projects/demo/logs/run.googleapis.com%2Fstderr"
SYSTEM_EVENT = "projects/demo/logs/cloudaudit.googleapis.com%2Fsystem_event"


class FakeLogs:
    def __init__(self) -> None:
        self._entries: list[LogEntry] = []

    def add_text(self, at: datetime, text: str, execution: str) -> None:
        """A line that a Cloud Run execution wrote."""
        self._add(at, RUN_STDERR, _run(execution), text_payload=text)

    def add_json(
        self, at: datetime, message: str, job_id: str, task: str = "workerpool0-0"
    ) -> None:
        """A line that a worker of a Vertex AI job wrote; Vertex calls all of stderr ERROR."""
        fields = Struct()
        fields.update({"message": message, "levelname": "ERROR"})
        resource = MonitoredResource(
            type="ml_job", labels={"job_id": job_id, "task_name": task, "project_id": "demo"}
        )
        self._add(at, f"projects/demo/logs/{task}", (resource, {}), json_payload=fields)

    def add_audit(self, at: datetime, message: str, execution: str) -> None:
        """What only the system's audit log tells, without the labels of the execution's own lines."""
        audit = AuditLog(
            status=Status(code=2, message=message),
            method_name="/Jobs.RunJob",
            resource_name=f"namespaces/demo/executions/{execution}",
        )
        payload = AnyMessage()
        payload.Pack(audit)
        source = _run(execution)[0], {}
        self._add(at, SYSTEM_EVENT, source, proto_payload=payload)

    def rpcs(self) -> Mapping[type, Mapping[str, Callable[[Any], Any]]]:
        return {LoggingServiceV2GrpcTransport: {"list_log_entries": self._list}}

    def _add(
        self,
        at: datetime,
        log_name: str,
        source: tuple[MonitoredResource, dict[str, str]],
        **payload: Any,
    ) -> None:
        resource, labels = source
        self._entries.append(
            LogEntry(
                log_name=log_name,
                resource=resource,
                labels=labels,
                timestamp=at,
                insert_id=f"{len(self._entries):08d}",
                **payload,
            )
        )

    def _list(self, request: ListLogEntriesRequest) -> ListLogEntriesResponse:
        order = request.order_by or "timestamp asc"
        if order not in ("timestamp asc", "timestamp desc"):
            raise WireError(grpc.StatusCode.INVALID_ARGUMENT, f"Invalid order_by: {order}")
        wanted = parsed(request.filter, _field)
        found = sorted(
            (entry for entry in self._entries if wanted(entry)),
            key=lambda entry: (entry.timestamp, entry.insert_id),
            reverse=order.endswith("desc"),
        )
        rows, token = page(found, request.page_size, request.page_token, usual=1000)
        return ListLogEntriesResponse(entries=rows, next_page_token=token)


def _run(execution: str) -> tuple[MonitoredResource, dict[str, str]]:
    resource = MonitoredResource(
        type="cloud_run_job",
        labels={"job_name": execution.rsplit("-", 1)[0], "location": "us-central1"},
    )
    return resource, {
        "run.googleapis.com/execution_name": execution,
        "run.googleapis.com/task_index": "0",
    }


def _field(entry: LogEntry, path: tuple[str, ...]) -> Any:
    name, *rest = (re.sub(r"([A-Z])", lambda found: f"_{found[1].lower()}", part) for part in path)
    match name, rest:
        case ("timestamp" | "log_name" | "insert_id" | "text_payload", []):
            return getattr(entry, name)
        case ("resource", ["type"]):
            return entry.resource.type
        case ("resource", ["labels", key]):
            return entry.resource.labels.get(key)
        case ("labels", [_]):
            return entry.labels.get(path[1])
        case ("json_payload", [key]):
            return (entry.json_payload or {}).get(key)
        case ("proto_payload", ["resource_name"]):
            return _audit(entry).resource_name or None
    raise WireError(grpc.StatusCode.INVALID_ARGUMENT, f"Invalid filter field: {'.'.join(path)}")


def _audit(entry: LogEntry) -> AuditLog:
    audit = AuditLog()
    LogEntry.pb(entry).proto_payload.Unpack(audit)
    return audit

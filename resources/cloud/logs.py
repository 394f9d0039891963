"""Entries of Cloud Logging: one query covers all regions."""

import time
from collections.abc import Callable
from datetime import datetime
from typing import Any

from resources.cloud.connections import LOGGING, Connections
from resources.cloud.credentials import Access
from resources.cloud.listing import Listing, read_pages
from resources.cloud.log_entry import LogEntry, text_of, writer_of
from resources.cloud.wire_values import NEVER, moment, rfc3339

# One of the few reads that a minute allows brings as much as the API gives.
_PAGE_SIZE = 1000
_AUDIT = "type.googleapis.com/google.cloud.audit.AuditLog"


def of_execution(execution: str) -> str:
    """The condition for all that a Cloud Run execution wrote, and the system wrote about it."""
    short = _quoted(execution.rsplit("/", 1)[-1])
    # The system's own entries name it in their payload.
    return (
        'resource.type="cloud_run_job" AND '
        f'(labels."run.googleapis.com/execution_name"={short} OR '
        f"protoPayload.resourceName:{short})"
    )


def of_job(name: str) -> str:
    """The condition for all that the workers of a Vertex AI job wrote."""
    short = name.rsplit("/", 1)[-1]
    return f'resource.type="ml_job" AND resource.labels.job_id={_quoted(short)}'


class Logs:
    """One connection, made on first use and kept.

    Google allows a project 60 reads a minute, each page one; this client takes 20 of them.
    """

    def __init__(self, access: Access, clock: Callable[[], float] = time.monotonic) -> None:
        self._connections = Connections(LOGGING, access, clock)
        # Here and not in the first call, whose deadline it would eat.
        from google.cloud.logging_v2.services.logging_service_v2 import LoggingServiceV2Client
        from google.cloud.logging_v2.services.logging_service_v2.transports.grpc import (
            LoggingServiceV2GrpcTransport,
        )

        self._classes = LoggingServiceV2Client, LoggingServiceV2GrpcTransport

    def entries(
        self, condition: str, since: datetime, until: datetime, at_most: int, seconds: float
    ) -> Listing[LogEntry]:
        """The newest ``at_most`` entries of the window, both ends in it, oldest first.

        ``seconds``: deadline of all pages together. CloudError when the first page fails.
        """
        client = self._connections.client("global", *self._classes)
        window = f'timestamp>="{rfc3339(since)}" AND timestamp<="{rfc3339(until)}"'

        def fetch(token: str, left: float) -> tuple[list[LogEntry], str]:
            request = {
                "resource_names": [f"projects/{self._connections.project}"],
                "filter": f"{window} AND ({condition})",
                "order_by": "timestamp desc",
                "page_size": min(_PAGE_SIZE, at_most),
                "page_token": token,
            }
            pager = self._connections.call("global", client.list_log_entries, request, left)
            page = next(iter(pager.pages))
            return [_entry(entry) for entry in page.entries], page.next_page_token

        listing = read_pages(fetch, seconds, at_most)
        rows = sorted(listing.rows, key=lambda entry: (entry.at, entry.insert_id))
        return Listing(tuple(rows), listing.missing)


def _entry(entry: Any) -> LogEntry:
    plain = type(entry).pb(entry)
    return LogEntry(
        at=moment(entry.timestamp) or NEVER,
        insert_id=plain.insert_id,
        writer=writer_of(plain.log_name, dict(plain.resource.labels), dict(plain.labels)),
        text=_text(plain),
    )


def _text(entry: Any) -> str:
    """Of a protobuf entry, whichever payload it has."""
    from google.cloud.audit.audit_log_pb2 import AuditLog  # type: ignore[import-untyped]
    from google.protobuf.json_format import MessageToDict  # type: ignore[import-untyped]

    match entry.WhichOneof("payload"):
        case "text_payload":
            return text_of(entry.text_payload, None, None)
        case "json_payload":
            return text_of(None, MessageToDict(entry.json_payload), None)
        case "proto_payload" if entry.proto_payload.type_url == _AUDIT:
            audit = AuditLog.FromString(entry.proto_payload.value)
            told = {"status": {"message": audit.status.message}, "methodName": audit.method_name}
            return text_of(None, None, told)
    return ""


def _quoted(value: str) -> str:
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'

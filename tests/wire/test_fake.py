"""The fake itself, where a test could be misled by it."""

import pytest

from tests.wire.aip_filter import parsed
from tests.wire.faults import WireError
from tests.wire.paging import page
from tests.wire.server import FakeGoogle, _methods

ROW = {"a": "x y", "b": 3, "labels.k-1": "v", "labels.run.com/name": "e"}


@pytest.mark.parametrize(
    ("text", "holds"),
    [
        ("", True),
        ('a="x y"', True),
        ("a=z OR b=3", True),
        ("a=z OR b=3 AND b=4", False),
        ("b>=3 b<4", True),
        ("NOT b=3", False),
        ("(a=z OR b=3) AND labels.k-1=v", True),
        ('labels."run.com/name"="e"', True),
        ('a:"x*"', True),
        ("labels.none:*", False),
        ("labels.none!=v", True),
        ("b!=3", False),
    ],
)
def test_the_filter_language(text: str, holds: bool) -> None:
    assert parsed(text, lambda row, path: row.get(".".join(path)))(ROW) is holds


@pytest.mark.parametrize("text", ["a", "a=", "(a=b", "a=b)", '"open', "= b"])
def test_what_is_no_filter_is_refused(text: str) -> None:
    with pytest.raises(WireError, match="Invalid filter"):
        parsed(text, lambda row, path: None)


def test_pages_hold_every_item_once() -> None:
    seen, token = [], ""
    while True:
        rows, token = page(range(250), 100, token)
        seen += rows
        if not token:
            break
    assert seen == list(range(250))
    with pytest.raises(WireError, match="page token"):
        page([1], 1, "x")


def test_the_paths_are_those_of_the_real_clients(google: FakeGoogle) -> None:
    assert sorted(dict(_methods(google))) == [
        "/google.cloud.aiplatform.v1.JobService/CancelCustomJob",
        "/google.cloud.aiplatform.v1.JobService/CreateCustomJob",
        "/google.cloud.aiplatform.v1.JobService/GetCustomJob",
        "/google.cloud.aiplatform.v1.JobService/ListCustomJobs",
        "/google.cloud.run.v2.Executions/GetExecution",
        "/google.cloud.run.v2.Executions/ListExecutions",
        "/google.cloud.run.v2.Jobs/CreateJob",
        "/google.cloud.run.v2.Jobs/GetJob",
        "/google.cloud.run.v2.Jobs/RunJob",
        "/google.cloud.run.v2.Jobs/UpdateJob",
        "/google.cloud.run.v2.Tasks/ListTasks",
        "/google.devtools.cloudbuild.v1.CloudBuild/ListBuilds",
        "/google.logging.v2.LoggingServiceV2/ListLogEntries",
    ]

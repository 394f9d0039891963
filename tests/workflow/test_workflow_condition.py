"""The branch condition: taken, or not taken with a reason."""

from typing import Any

import pytest

from forge_assets.workflow.condition import same_json, why_not_taken
from forge_assets.workflow.spec import When

ANSWER = {
    "level": 2,
    "share": 0.5,
    "ok": True,
    "name": "files",
    "tags": ["a", 1],
    "inner": {"x": None},
}


@pytest.mark.parametrize(
    ("path", "op", "value"),
    [
        ("level", "==", 2),
        ("level", "==", 2.0),
        ("level", "!=", 3),
        ("level", "!=", "2"),
        ("level", "<", 3),
        ("level", "<=", 2),
        ("level", ">", 1.5),
        ("share", ">=", 0.5),
        ("name", ">", "data"),
        ("level", "in", [1, 2]),
        ("name", "in", ["files", "text"]),
        ("name", "contains", "ile"),
        ("tags", "contains", 1),
        ("tags.0", "==", "a"),
        ("inner.x", "==", None),
        ("inner", "==", {"x": None}),
        ("ok", "==", True),
    ],
)
def test_taken(path: str, op: str, value: Any) -> None:
    when = When.model_validate({"step": "s", "path": path, "op": op, "value": value})
    assert why_not_taken(when, ANSWER) is None


@pytest.mark.parametrize(
    ("path", "op", "value", "reason"),
    [
        ("level", "==", 3, "branch not taken: s.level is 2, not == 3"),
        ("level", "!=", 2, "branch not taken: s.level is 2, not != 2"),
        ("level", "<", 2, "branch not taken: s.level is 2, not < 2"),
        ("level", "in", [1], "branch not taken: s.level is 2, not in [1]"),
        ("level", "==", True, "branch not taken: s.level is 2, not == True"),
        ("name", "contains", "x", "branch not taken: s.name is 'files', not contains 'x'"),
        ("tags", "contains", True, "s.tags is ['a', 1], not contains True"),
        ("none", "==", 1, "branch not taken: s.none is not in the answer"),
        ("none", "!=", 1, "branch not taken: s.none is not in the answer"),
        ("tags.9", "==", 1, "branch not taken: s.tags.9 is not in the answer"),
        ("level.x", "==", 1, "branch not taken: s.level.x is not in the answer"),
        ("name", "<", 3, "branch not taken: s.name is 'files', not comparable by < 3"),
        ("ok", "<", 3, "branch not taken: s.ok is True, not comparable by < 3"),
        ("inner.x", ">", 1, "branch not taken: s.inner.x is None, not comparable by > 1"),
        ("level", "contains", 2, "branch not taken: s.level is 2, not comparable by contains 2"),
    ],
)
def test_not_taken(path: str, op: str, value: Any, reason: str) -> None:
    when = When.model_validate({"step": "s", "path": path, "op": op, "value": value})
    assert str(why_not_taken(when, ANSWER)).endswith(reason)


def test_without_a_path_the_whole_answer_counts() -> None:
    when = When(step="sort", op="==", value="bad")
    assert why_not_taken(when, "bad") is None
    assert why_not_taken(when, "good") == "branch not taken: sort is 'good', not == 'bad'"


def test_same_json() -> None:
    assert same_json([1, {"a": False}], [1.0, {"a": False}])
    assert not same_json([1], [True])
    assert not same_json({"a": 0}, {"a": False})
    assert not same_json([1], [1, 1])
    assert not same_json({"a": 1}, {"b": 1})

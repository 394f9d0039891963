"""The part of Google's filter language (AIP-160) that we send: AND, OR, NOT, brackets, comparisons."""

import re
from collections.abc import Callable
from datetime import datetime
from typing import Any

import grpc

from tests.wire.faults import WireError

Field = Callable[[Any, tuple[str, ...]], Any]
"""A message and a path -> the value there; None when it is not set."""
Test = Callable[[Any], bool]

_TOKEN = re.compile(
    r"""\s*(?:(?P<mark>[()])|(?P<op>>=|<=|!=|=|>|<|:)|"(?P<text>(?:[^"\\]|\\.)*)"|(?P<word>[^\s()"=<>!:]+))"""
)


class _Parser:
    def __init__(self, text: str, field: Field) -> None:
        self._field = field
        self._tokens: list[tuple[str, str]] = []
        at, text = 0, text.rstrip()
        while at < len(text):
            found = _TOKEN.match(text, at)
            if found is None:
                raise _invalid(text[at:])
            kind = str(found.lastgroup)
            value = found[kind]
            self._tokens.append((kind, re.sub(r"\\(.)", r"\1", value) if kind == "text" else value))
            at = found.end()

    def whole(self) -> Test:
        if not self._tokens:
            return lambda message: True
        test = self._any()
        if self._tokens:
            raise _invalid(self._tokens[0][1])
        return test

    def _any(self) -> Test:
        tests = [self._all()]
        while self._next("word", "OR"):
            tests.append(self._all())
        return lambda message: any(test(message) for test in tests)

    def _all(self) -> Test:
        tests = [self._one()]
        # Two terms side by side are both wanted.
        while self._next("word", "AND") or (self._tokens and self._tokens[0][1] not in (")", "OR")):
            tests.append(self._one())
        return lambda message: all(test(message) for test in tests)

    def _one(self) -> Test:
        if self._next("word", "NOT"):
            test = self._one()
            return lambda message: not test(message)
        if self._next("mark", "("):
            inner = self._any()
            if not self._next("mark", ")"):
                raise _invalid("(")
            return inner
        return self._comparison()

    def _comparison(self) -> Test:
        path: list[str] = []
        while self._tokens and self._tokens[0][0] in ("word", "text"):
            kind, value = self._tokens.pop(0)
            path += [value] if kind == "text" else [part for part in value.split(".") if part]
        if not path or len(self._tokens) < 2 or self._tokens[0][0] != "op":
            raise _invalid(".".join(path))
        op, wanted = self._tokens.pop(0)[1], self._tokens.pop(0)[1]
        return lambda message: _holds(self._field(message, tuple(path)), op, wanted)

    def _next(self, kind: str, value: str) -> bool:
        if self._tokens[:1] != [(kind, value)]:
            return False
        self._tokens.pop(0)
        return True


def parsed(text: str, field: Field) -> Test:
    """Raises WireError INVALID_ARGUMENT for a text that is no filter."""
    return _Parser(text, field).whole()


def _holds(value: Any, op: str, wanted: str) -> bool:
    if value is None:
        return op == "!="
    if op == ":":
        return wanted == "*" or wanted.rstrip("*").casefold() in str(value).casefold()
    expected: Any = wanted
    if isinstance(value, datetime):
        expected = datetime.fromisoformat(wanted)
    elif isinstance(value, int):
        expected = int(wanted)
    return {
        "=": value == expected,
        "!=": value != expected,
        ">": value > expected,
        ">=": value >= expected,
        "<": value < expected,
        "<=": value <= expected,
    }[op]


def _invalid(near: str) -> WireError:
    return WireError(grpc.StatusCode.INVALID_ARGUMENT, f"Invalid filter near: {near}")

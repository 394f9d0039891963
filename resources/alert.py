"""A message to people."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Message:
    """``key``: what it tells of; the same key is told once."""

    key: str
    title: str
    body: str

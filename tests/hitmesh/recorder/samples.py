"""Messages for the tests of recorders."""

from __future__ import annotations

from hitmesh.protocol.messages import Entry, Gap, Records, make

DC = "eu-west"


def line(text: str = "x", at_ms: int = 1000, *, level: int = 20, **fields: str | float) -> Entry:
    return Entry(at_ms, level, "hitmesh", text, fields)


def records(
    *entries: Entry, first: int = 1, name: str = "collector-1", role: str = "collector", id: str = ""
) -> Records:
    return make(Records, DC, role, name, id or f"{name}.0a", first, 0, entries)


def gap(since_ms: int = 0, until_ms: int = 1, entries: int = 1, why: str = "the disk is full") -> Gap:
    return make(Gap, "recorder-1", since_ms, until_ms, entries, why)

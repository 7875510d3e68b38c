r"""A record of a log as it is written: text for people, logfmt and JSON for programs. Pure.

Whoever logs an event gives what it is about as fields, `extra={"fields": {"partition": 7, "epoch": 12}}`, which the record
then has as `record.fields`. In text they follow the message; in the other two forms each stands for itself.

Invariants, whatever is in a message, a name or a value:
- In logfmt and JSON a record is one line, its traceback included. In text its first line alone begins with a time: those
  of a traceback are indented.
- No value ends its field, or begins another one. What isn't plain is quoted, with \" and \\ for the two characters that
  matter, and everything that isn't printable as Python writes it (hitmesh.visible). JSON is ASCII.
"""

from __future__ import annotations

import json
import logging
import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Final, NamedTuple

from hitmesh.visible import visible

Value = str | int | float | bool
Fields = Mapping[str, Value]

TEXT: Final = "text"
LOGFMT: Final = "logfmt"
JSON: Final = "json"
NOBODY: Final = "-"  # where it isn't known who speaks
OWN: Final = ("time", "level", "dc", "role", "name", "logger", "message", "traceback")
"""The fields that every record has, or may have: one of an event's with such a name gets a `_` behind it."""

_PLAIN: Final = re.compile(r"[!#-<>-\[\]-~]+")  # printable ASCII but the space, the quote, = and the backslash
_KEY: Final = re.compile(r"[^A-Za-z0-9_.]")

_Exception = tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None]


class Speaker(NamedTuple):
    """Whose log it is."""

    dc: str = NOBODY
    role: str = NOBODY
    name: str = NOBODY  # of the instance


UNKNOWN: Final = Speaker()


def fields_of(record: logging.LogRecord) -> Fields:
    """What the event of a record is about, under names that no field of every record has."""
    fields = getattr(record, "fields", None)
    return named(fields) if isinstance(fields, Mapping) else {}


def named(fields: Mapping[Any, object]) -> Fields:
    """Fields from anywhere, under names that no field of every record has."""
    found: dict[str, Value] = {}
    for key, value in fields.items():
        name = _KEY.sub("_", str(key)) or "_"
        found[f"{name}_" if name in OWN else name] = value if isinstance(value, (str, int, float)) else str(value)
    return found


def pair(key: str, value: Value) -> str:
    """A field as text and logfmt have it: key=value."""
    if isinstance(value, bool):
        return f"{key}={'true' if value else 'false'}"
    text = str(value)
    return f"{key}={text if _PLAIN.fullmatch(text) else quoted(text)}"


def quoted(text: str) -> str:
    r"""The text in double quotes, on one line; as Go's strconv.Unquote reads it: "a \"b\"\n\u202e"."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{visible(escaped)}"'


class Lines(logging.Formatter):
    """Text: TIME DC/ROLE/NAME LEVEL LOGGER: MESSAGE, and the fields; a traceback's lines follow, indented."""

    def __init__(self, speaker: Speaker = UNKNOWN) -> None:
        super().__init__(f"%(asctime)s {'/'.join(speaker).replace('%', '%%')} %(levelname)s %(name)s: %(message)s")

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's name
        line = visible(super().formatMessage(record))
        fields = " ".join(pair(key, value) for key, value in fields_of(record).items())
        return f"{line} {fields}" if fields else line

    def formatException(self, ei: _Exception) -> str:  # noqa: N802 - logging's name
        return _indented(super().formatException(ei))

    def formatStack(self, stack_info: str) -> str:  # noqa: N802 - logging's name
        return _indented(super().formatStack(stack_info))


class _Structured(logging.Formatter):
    """What logfmt and JSON share: everything is a field."""

    def __init__(self, speaker: Speaker = UNKNOWN) -> None:
        super().__init__()
        self._speaker = speaker

    def _fields(self, record: logging.LogRecord) -> dict[str, Value]:
        fields: dict[str, Value] = {
            "time": _moment(record),
            "level": record.levelname.lower(),
            **self._speaker._asdict(),
            "logger": record.name,
            "message": record.getMessage(),
            **fields_of(record),
        }
        traces = [super().formatException(record.exc_info)] if record.exc_info else []
        if record.stack_info:
            traces.append(record.stack_info)
        if traces:
            fields["traceback"] = "\n".join(traces)
        return fields


class Logfmt(_Structured):
    """key=value, in one line."""

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        return " ".join(pair(key, value) for key, value in self._fields(record).items())


class Json(_Structured):
    """An object in one line of ASCII."""

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        fields = {
            key: str(value) if isinstance(value, float) and not math.isfinite(value) else value
            for key, value in self._fields(record).items()
        }
        return json.dumps(fields, separators=(",", ":"))


FORMS: Final[Mapping[str, type[Lines | Logfmt | Json]]] = {TEXT: Lines, LOGFMT: Logfmt, JSON: Json}


def _moment(record: logging.LogRecord) -> str:
    """When it was, by this host's clock, in UTC."""
    return f"{datetime.fromtimestamp(record.created, UTC):%Y-%m-%dT%H:%M:%S}.{int(record.msecs):03d}Z"


def _indented(text: str) -> str:
    return "\n".join(f"    {visible(line)}" for line in text.split("\n"))

"""What is streamed of a status: the whole of it, then what has changed (RFC 7396). Pure.

The stream form of a status is its JSON with two changes, so that a merge patch fits: each list of objects is an object
by the `key` of its items, and a member that would be null isn't there. Lists of anything else are replaced whole.

Invariant: the first document with every patch after it applied, in their order, is the last document.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any, Final, get_args, get_origin

import msgspec
from msgspec import Struct

from hitmesh.dashboard.status import Status

RETRY_MS: Final = 500  # that a browser waits before it comes back

_encode = msgspec.json.Encoder().encode


def stream_form(status: Status) -> dict[str, Any]:
    """A status as it is streamed."""
    return _object(status)


def merge_patch(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    """What makes `new` of `old`, neither of which has a null in an object; empty when nothing does."""
    patch: dict[str, Any] = dict.fromkeys(old.keys() - new.keys())
    for name, value in new.items():
        was = old.get(name)
        if was is value:
            continue
        if isinstance(value, Mapping) and isinstance(was, Mapping):
            if within := merge_patch(was, value):
                patch[name] = within
        elif was != value or type(was) is not type(value):  # 1 and True are two things, in JSON
            patch[name] = value
    return patch


def event(name: str, data: object) -> bytes:
    """A server-sent event."""
    return b"event: %s\ndata: %s\n\n" % (name.encode(), _encode(data))


RETRY: Final = b"retry: %d\n\n" % RETRY_MS
"""Said to whoever is sent away: come back soon."""


class Stream:
    """The document as everybody who listens has it, and what is sent of it. Everything is encoded once."""

    def __init__(self) -> None:
        self._form: dict[str, Any] = {}
        self._whole = b""

    def advance(self, status: Status) -> bytes:
        """Go on to this status; the event that whoever has the one before needs, empty when nothing has changed."""
        form = stream_form(status)
        # The moment itself is what a tick says.
        patch = {name: value for name, value in merge_patch(self._form, form).items() if name != "now"}
        self._form, self._whole = form, b""
        return event("patch", patch | {"now": form["now"]}) if patch else b""

    def whole(self) -> bytes:
        """The event with all of the document."""
        if not self._whole:
            self._whole = event("status", self._form)
        return self._whole


def tick(now: float) -> bytes:
    """The event of each second, whatever happens."""
    return event("tick", {"now": now})


def _object(value: Struct) -> dict[str, Any]:
    form: dict[str, Any] = {}
    by_key = _lists_by_key(type(value))
    for name in value.__struct_fields__:
        each = getattr(value, name)
        if name in by_key:
            form[name] = {one.key: _object(one) for one in each}
        elif isinstance(each, Struct):
            form[name] = _object(each)
        elif isinstance(each, Mapping):
            form[name] = {key: _object(one) if isinstance(one, Struct) else one for key, one in each.items()}
        elif each is not None:
            form[name] = list(each) if isinstance(each, tuple) else each
    return form


@functools.cache
def _lists_by_key(kind: type[Struct]) -> frozenset[str]:
    """The fields of a kind that are lists of objects with a key, empty ones too."""
    return frozenset(
        field.name
        for field in msgspec.structs.fields(kind)
        if any(isinstance(one, type) and issubclass(one, Struct) for one in get_args(field.type))
        and get_origin(field.type) is Sequence
    )

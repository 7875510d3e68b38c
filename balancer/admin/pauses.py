"""Pauses of routes by REST: PUT and DELETE /pauses/<pattern>. What is paused stands in /routes.

Owns the JSON and what is checked before something is written; what a pause is says `hitmesh.config.pauses`.
"""

from __future__ import annotations

import time
from typing import Annotated, Any, Final

import falcon
import msgspec
from falcon import Request, Response
from msgspec import Meta, Struct

from balancer.admin.changing import author_of, change, parsed
from balancer.admin.routes import Tables, no_route, pattern_named
from hitmesh.config.pauses import LONGEST_HOLD_S, LONGEST_S, MAX_TEXT_CHARS, PAUSES, TEXT, USUAL_S, RoutePause
from hitmesh.settings import SettingsStore

_encode: Final = msgspec.json.Encoder().encode


class _Wanted(Struct, forbid_unknown_fields=True):
    """The body of a PUT."""

    text: Annotated[str, Meta(max_length=MAX_TEXT_CHARS, description="what is answered, with status 503")] = ""
    hold_s: Annotated[float, Meta(ge=0, le=LONGEST_HOLD_S, description="for which a request waits instead")] = 0.0
    for_s: Annotated[float, Meta(ge=1, le=LONGEST_S, description="seconds until it ends by itself")] = USUAL_S


class OnePause:
    """PUT and DELETE /pauses/<pattern>."""

    def __init__(self, tables: Tables, settings: SettingsStore | None) -> None:
        self._tables, self._settings = tables, settings

    def on_put(self, req: Request, resp: Response, pattern: str) -> None:
        """Pause a route, anew if it is paused."""
        pattern = pattern_named(pattern)
        wanted = parsed(req.bounded_stream.read(), _Wanted)  # which the listener has bounded, and read whole
        if wanted.text and wanted.hold_s:
            raise falcon.HTTPBadRequest(title="Bad body", description="text or hold_s, not both")
        if wanted.text and not wanted.text.strip():
            raise falcon.HTTPBadRequest(title="Bad body", description="text says nothing")
        if self._tables.table().get(pattern) is None:
            raise no_route(pattern)
        text = wanted.text if wanted.text or wanted.hold_s else TEXT
        pause = RoutePause(until=round(time.time() + wanted.for_s, 3), text=text, hold_s=wanted.hold_s)
        author = author_of(req)
        change(self._settings, lambda store: store.set(PAUSES + pattern, _encode(pause), author=author))
        _answer(resp, {"host": pattern, "paused": pause})

    def on_delete(self, req: Request, resp: Response, pattern: str) -> None:
        """Resume it."""
        pattern, author = pattern_named(pattern), author_of(req)
        if not change(self._settings, lambda store: store.delete(PAUSES + pattern, author=author)):
            raise falcon.HTTPNotFound(title="Not paused", description=f"the route {pattern} isn't paused")
        _answer(resp, {"host": pattern, "paused": None})


def _answer(resp: Response, told: dict[str, Any]) -> None:
    resp.data = _encode(told)
    resp.content_type = "application/json"

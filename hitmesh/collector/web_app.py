"""The collector's Falcon app as a worker asks it: what waits for nothing, what is held, and what needn't go through Falcon.

Any WSGI server may run it. One that knows HeldAnswers and these two methods runs it faster.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final
from urllib.parse import unquote_to_bytes

import falcon
from falcon import Request, Response

from hitmesh.collector.answers import FIELDS
from hitmesh.collector.front import Asked
from hitmesh.collector.held_hit import FAILED, HeldHit
from hitmesh.collector.requests import page_of
from hitmesh.collector.rules import Rules
from hitmesh.http.wsgi import Environ
from hitmesh.site.visits import Entry

HIT: Final = "/hit/"
PIXEL: Final = "/pixel/"
BADGE: Final = "/badge/"

_HIT: Final = HIT.encode()
_COUNTING: Final = frozenset((b"GET", b"POST"))
_HEADERS: Final = tuple((name.lower(), value) for name, value in FIELDS)  # as Falcon writes them

_HELD: Final = (HIT, PIXEL, BADGE)

Count = Callable[[str, Entry, Callable[[], Environ]], HeldHit]


class WebApp:
    """Falcon's app for any WSGI server; hits' answers are HeldAnswers."""

    def __init__(self, app: falcon.App[Request, Response], count: Count, rules: Rules) -> None:
        """`count` is the core of the responder to hits."""
        self._app = app
        self._count = count
        self._rules = rules

    def never_waits(self, path: str) -> bool:
        """Whether a request for it waits for nothing but its body."""
        return path.startswith(_HELD)

    def shortcut(self, method: bytes, target: bytes, asked: Asked, start_response: Any) -> HeldHit | None:
        """A hit without a body and an Origin, counted by its responder's core, but past Falcon.

        Falcon makes the same of it. None for anything else, and for what is wrong: then Falcon is to be asked for the
        answer; what has been tried once isn't tried again there.
        """
        if not target.startswith(_HIT) or method not in _COUNTING:
            return None
        path, _, query = target[len(_HIT) :].partition(b"?")
        if b"%" in path:
            path = unquote_to_bytes(path)
        try:
            text = path.decode()
        except UnicodeDecodeError:
            return None
        try:
            page = page_of(text, query.decode("latin-1"), self._rules.naming)
            held = self._count(page, asked.entry, asked.environ)
        except Exception as error:  # noqa: BLE001 - it is answered, and logged, as any other of the responder's
            asked.environ()[FAILED] = error
            return None
        held.begin(self._app, falcon.HTTP_200, _HEADERS, start_response)
        return held

    def __call__(self, environ: Environ, start_response: Any) -> Iterable[bytes]:
        """Answer a request, or hold its answer."""
        head = _Head()
        answer = self._app(environ, head)
        if isinstance(answer, HeldHit):
            answer.begin(self._app, head.status, head.headers, start_response)
        else:
            start_response(head.status, head.headers)
        return answer


class _Head:
    """What Falcon says of an answer that is perhaps held: it calls `start_response` too early for that."""

    __slots__ = ("headers", "status")

    status: str
    headers: Sequence[tuple[str, str]]

    def __call__(
        self, status: str, headers: Sequence[tuple[str, str]], problem: object = None
    ) -> Callable[[bytes], None]:
        self.status, self.headers = status, headers
        return _no_write


def _no_write(data: bytes) -> None:
    raise NotImplementedError("Falcon's answers are iterated")

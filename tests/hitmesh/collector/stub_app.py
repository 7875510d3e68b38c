"""The collector's own app before a collector that answers the same at any time, and an app that says what it was asked.

For gunicorn: `tests.hitmesh.collector.stub_app:counting()` and `:saying()`, under whichever worker class.
"""

from __future__ import annotations

import itertools
import os
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from types import SimpleNamespace
from typing import Any, Final, cast

import gevent
import gevent.monkey

from hitmesh.collector.app import make_app
from hitmesh.collector.collector import Collector, Forming
from hitmesh.collector.known import Total
from hitmesh.collector.listed import Listed
from hitmesh.collector.rules import Rules
from hitmesh.collector.web_app import WebApp
from hitmesh.collector.worker import HubWorker
from hitmesh.config import parse
from hitmesh.config.balancer import BalancerLimits
from hitmesh.errors import SpoolRefused, SpoolUnknown
from hitmesh.http.errors import BadMessage
from hitmesh.http.held_answer import HeldAnswer
from hitmesh.http.limits import ADDED_BYTES, ADDED_FIELDS, FIELDS, HEAD_BYTES
from hitmesh.http.wsgi import Environ
from hitmesh.settings.live import Live
from hitmesh.store.totals import Listing
from tests.balancer.wire.oracle import Seen
from tests.hitmesh.collector.test_bounds import NODE

PUT_S: Final = 0.002
READ_S: Final = 0.004
HANG: Final = "/hang"  # the whole process
HANG_S: Final = 600.0
LISTED: Final = {f"s/{number}": {"here": number, "there": 7} for number in range(5)}


class StubCollector:
    """What the app asks of a collector. A page says by its first word what becomes of it."""

    def __init__(self) -> None:
        config = parse({"name": "here", "nodes": {"local": NODE}}, source="test")
        self.name = "collector-1"
        self.live = SimpleNamespace(config=config, retired=frozenset({"gone"}))
        self.rules = Rules(cast(Live, self.live))
        self.refusals: Counter[str] = Counter()

    def submit(self, counts: Mapping[str, int], request_id: str = "", page: str = "") -> Forming:
        site = next(iter(counts)).partition("/")[0]
        if site == "full":
            raise SpoolRefused("the spool is slower than the hits that come in", hint="try again in a second")
        if site == "bug":
            raise ZeroDivisionError
        forming = Forming(time.monotonic())
        forming.add(counts)
        error: SpoolRefused | SpoolUnknown | None = None
        if site == "refused":
            error = SpoolRefused("no room", op="put", endpoint="here")
        elif site == "unknown":
            error = SpoolUnknown("no clear answer", op="put", endpoint="here")
        gevent.spawn_later(PUT_S, forming.release, error)
        return forming

    def nothing(self) -> Forming:
        forming = Forming(time.monotonic())
        gevent.get_hub().loop.run_callback(forming.release)
        return forming

    def prefetch(self, page: str) -> None:
        """As a collector's."""

    def is_known(self, page: str) -> bool:
        return not page.startswith(("stale", "late"))

    def total(self, page: str) -> Total:
        if not self.is_known(page):
            gevent.sleep(READ_S)
        if page.startswith("late"):
            raise ZeroDivisionError
        if page.startswith("nobody"):
            return Total(None, {}, {})
        return Total(len(page), {"here": 1, "there": 2, "gone": 3}, {"here": 0.0, "there": None, "gone": 1.23456})

    def check(self) -> None:
        """As a collector's."""

    def all_totals(self) -> Listed:
        listing = Listing(LISTED, frozenset(), frozenset({1}), frozenset(), {})
        return Listed(listing, {}, dc="here", partitions=32, read_s=0.0, now_s=0.0)


def counting() -> WebApp:
    """The collector's app."""
    return make_app(cast(Collector, StubCollector()))


# --- what was asked -----------------------------------------------------------------------------


class BareWorker(HubWorker):
    """As any, but with no more room for a head than a balancer has: what is too large is the same to both."""

    def limits(self) -> BalancerLimits:
        return BalancerLimits(headers=FIELDS - ADDED_FIELDS, head_bytes=HEAD_BYTES - ADDED_BYTES)


class _Saying:
    """Each answer has the request's number and a digest of what was asked; each path has its way of being answered."""

    def __init__(self) -> None:
        self._serials = itertools.count(1)

    def never_waits(self, path: str) -> bool:
        return len(path) % 2 == 1

    def __call__(self, environ: Environ, start_response: Any) -> Iterable[bytes]:
        if environ["PATH_INFO"] == HANG:
            gevent.monkey.get_original("time", "sleep")(HANG_S)
        method, target = environ["REQUEST_METHOD"].encode(), environ["RAW_URI"].encode("latin-1")
        try:
            body = environ["wsgi.input"].read()
        except BadMessage as error:
            start_response(f"{error.status} Bad", [])
            return []
        headers = [
            ("X-Serial", str(next(self._serials))),
            ("X-Method", method.decode()),
            ("X-Seen", Seen(method, target, b"", (), body, ()).digest),
            ("X-Pid", str(os.getpid())),
        ]
        if len(target) % 3:
            start_response("200 OK", headers)
            return [b"said"]
        return _Later(headers, start_response)


class _Later(HeldAnswer):
    """The same, a moment later, by a greenlet or by the hub itself."""

    def __init__(self, headers: list[tuple[str, str]], start_response: Any) -> None:
        self._headers, self._start_response = headers, start_response

    def __iter__(self) -> Any:
        self._start_response("200 OK", self._headers)
        return iter([b"sa", b"id"])

    def hold(self, released: Callable[[], None]) -> None:
        if len(self._headers[0][1]) % 2:
            gevent.spawn_later(PUT_S, released)
        else:
            gevent.get_hub().loop.run_callback(released)

    def waits(self) -> bool:
        return False


def saying() -> _Saying:
    """An app that says what it was asked."""
    return _Saying()

"""A worker behind a virtual IP: says twenty times a second how it is, and is told when the instance will leave."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Any, Final
from urllib.parse import urlsplit

from gevent import get_hub

from balancer.middle.service import Service
from balancer.vip.place import VirtualIp
from balancer.vip.reach import Reach
from balancer.vip.word import TICK_S, Stage, Word
from hitmesh.config import ROLES
from hitmesh.protocol.messages import Instance

LOOK_AROUND: Final = 20  # ticks between two looks at who is heard of


class Behind:
    """Of the worker `index`; the first one asks collectors while there are no answers.

    `living` are the instances of a role that are heard of; `own_host` is an address, and empty where there are
    no other hosts.
    """

    def __init__(
        self,
        vip: VirtualIp,
        index: int,
        *,
        own_host: str,
        services: Iterable[Service],
        living: Callable[[str], Iterable[Instance]],
    ) -> None:
        self._index = index
        self._own_host = own_host
        self._living = living
        self._reach = Reach(services, now=time.monotonic())
        self._word = Word(vip.said)
        self._ticks = 0
        self._leaving_since: float | None = None
        self._leave: Callable[[], None] = lambda: None
        self._timer: Any = get_hub().loop.timer(TICK_S, TICK_S, ref=False)

    def start(self, leave: Callable[[], None]) -> None:
        """Begin to say it; `leave` is called when the instance will leave."""
        self._leave = leave
        self._say()
        self._timer.start(self._say)

    def stop(self) -> float:
        """Say no more; for how many seconds it has been leaving."""
        self._timer.stop()
        self._timer.close()
        self._word.close()
        return 0.0 if self._leaving_since is None else time.monotonic() - self._leaving_since

    def _say(self) -> None:
        now = time.monotonic()
        if self._own_host and self._ticks % LOOK_AROUND == 0:
            self._reach.is_cut_off = not self._hears_another_host()
        self._ticks += 1
        self._reach.look(now, may_ask=self._index == 0)
        self._word.beat(self._index, now=now, reached_at=self._reach.reached_at)
        if self._leaving_since is None and self._word.stage() != Stage.SERVES:
            self._leaving_since = now
            self._leave()

    def _hears_another_host(self) -> bool:
        return any(
            urlsplit(endpoint).hostname != self._own_host
            for role in ROLES
            for instance in self._living(role)
            for endpoint in instance.endpoints.values()
        )

"""Consul's answers however busy the machine: waited for as long as it takes, but where silence is the fault."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from typing import Protocol

from hitmesh.store.consul import Timeouts
from hitmesh.store.consul_host import Host
from hitmesh.store.consul_http import ConsulHosts
from tests.services import PATIENCE_S
from tests.services.faulty_proxy import Fault, FaultyProxy, Request, writes

PATIENT = Timeouts(read_s=PATIENCE_S, write_s=PATIENCE_S, scan_s=PATIENCE_S)
HASTY_S = 0.3  # for an answer that won't come
SILENCE = Fault(delay_s=60.0)  # the true answer, when nobody waits for it any more


class AsksConsul(Protocol):
    """A store whose requests go through `ConsulHosts`."""

    _consul: ConsulHosts


@contextmanager
def failing(proxy: FaultyProxy, store: AsksConsul, fault: Fault) -> Iterator[None]:
    """The fault for as long as this lasts; the store gives up soon on what gets no answer by it, and on nothing else."""
    consul = store._consul
    ask = consul._ask

    def asked(host: Host, method: str, path: str, body: bytes, timeout_s: float) -> tuple[int, str]:
        silent = fault.delay_s and host.port == proxy.port and fault.when(Request(method, path, body))
        return ask(host, method, path, body, HASTY_S if silent else timeout_s)

    consul._ask = asked  # type: ignore[method-assign]
    proxy.inject(fault)
    try:
        yield
    finally:
        proxy.heal()
        consul._ask = ask  # type: ignore[method-assign]


class Held:
    """Holds the writes that come to a proxy until they are let go."""

    def __init__(self, proxy: FaultyProxy) -> None:
        self._forward = proxy._forward
        self._go = threading.Event()
        self._done = threading.Event()
        proxy._forward = self._hold  # type: ignore[method-assign]

    def let_go(self) -> None:
        """Let them through, and wait until Consul has answered one."""
        self._go.set()
        assert self._done.wait(PATIENCE_S), "no write has come"

    def _hold(self, client: BaseHTTPRequestHandler, request: Request) -> tuple[int, str, bytes]:
        if not writes(request):
            return self._forward(client, request)
        self._go.wait(2 * PATIENCE_S)
        answer = self._forward(client, request)
        self._done.set()
        return answer

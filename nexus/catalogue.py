"""Consul's catalogue as the address book of a mesh: a Nexus registers there, and finds the others. Thin I/O.

It is asked over and over: not by blocking queries, as the catalogue of another datacenter is read
through a leader there, and one that is cut off would hold them.

Invariants:
- No answer, nor any kind of it, ends the Nexus, nor makes anybody disappear (nexus.entries).
- A datacenter that is slow to answer doesn't keep the others waiting.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from typing import Final, TypeVar
from urllib.parse import quote

import gevent
from gevent.event import Event
from gevent.lock import BoundedSemaphore
from gevent.pool import Pool
from msgspec import json

from hitmesh.config import Config
from hitmesh.store.consul_host import Host, NoAnswer
from hitmesh.store.urls import consul_place, is_consul
from nexus.entries import SERVICE, Directory, is_registered, registration
from nexus.federation import Catalogue

POLL_S: Final = 2.0  # a datacenter that is new should be known within 10 s
ANSWER_S: Final = 3.0  # another datacenter's answer comes through two leaders
FAREWELL_S: Final = 0.5  # that a Nexus waits at its end for being taken out of the catalogue
QUERIES: Final = 16  # at a time: as many datacenters out of reach don't slow the others

T = TypeVar("T")
_log = logging.getLogger("hitmesh.nexus")


class ConsulCatalogue:
    """One Nexus in the catalogue that `hosts` serve: `run` is a greenlet, which ends with `stop`.

    `on_found` is called with what is known of the others, whenever that changes.
    """

    def __init__(
        self,
        hosts: list[Host],
        *,
        dc: str,
        name: str,
        endpoint: str,
        partitions: int,
        prefix: str,
        on_found: Callable[[Catalogue], None],
    ) -> None:
        self._hosts = hosts
        self._service = registration(dc, name, endpoint, partitions, prefix)
        self._directory = Directory(prefix)
        self._on_found = on_found
        self._told: Catalogue | None = None
        self._complaint: dict[str, str] = {}  # by what was tried: what the log has said
        self._registering = BoundedSemaphore()
        self._at: dict[Host, str] = {}  # where it is registered, and the stamp of the token that it showed
        self._stopped = Event()

    @classmethod
    def of(
        cls, config: Config, name: str, endpoint: str, on_found: Callable[[Catalogue], None]
    ) -> ConsulCatalogue | None:
        """That of a datacenter whose totals are in Consul; None: others have none. Raises ConfigError."""
        if not is_consul(config.stores.totals):
            return None
        hosts, prefix = consul_place("stores.totals", config.stores.totals, "nexus")
        return cls(
            hosts,
            dc=config.name,
            name=name,
            endpoint=endpoint,
            partitions=config.partitions,
            prefix=prefix,
            on_found=on_found,
        )

    def run(self) -> None:
        """Register, and look for the others, again and again."""
        self._tell()  # that nothing is known yet
        while not self._stopped.is_set():
            self.poll()
            self._stopped.wait(POLL_S)

    def poll(self) -> None:
        """Register, and look for the others, once."""
        self._try("register", self._register)
        self._try("ask for datacenters", self._look)
        pool = Pool(QUERIES)
        for name in self._directory.names:
            pool.spawn(self._try, f"ask for those of {name}", partial(self._look_in, name))
        pool.join()
        self._tell()

    def stop(self) -> None:
        """Look no more, and be in no catalogue any more."""
        self._stopped.set()
        path = f"/v1/agent/service/deregister/{quote(self._service['ID'])}"
        with gevent.Timeout.start_new(FAREWELL_S) as timeout:
            try:
                with self._registering:
                    for host in self._at:
                        self._try("deregister", partial(_request, host, "PUT", path))
            except gevent.Timeout as fired:
                if fired is not timeout:
                    raise
                _log.warning("Consul's catalogue: it stays registered: no answer within %g s", FAREWELL_S)

    # --- within ---------------------------------------------------------------------------

    def _register(self) -> None:
        with self._registering:
            if not self._stopped.is_set():
                self._first(self._register_at)

    def _register_at(self, host: Host) -> None:
        status, body = _request(host, "GET", f"/v1/agent/service/{quote(self._service['ID'])}", also=404)
        stamp = host.stamp()  # the agent goes on by the token of the registration
        if status == 404 or self._at.get(host) != stamp or not _understood(is_registered, self._service, body):
            _request(host, "PUT", "/v1/agent/service/register", json.encode(self._service))
        self._at[host] = stamp

    def _look(self) -> None:
        def look(host: Host) -> None:
            if self._directory.blind:
                _understood(self._directory.agent, _request(host, "GET", "/v1/agent/self")[1])
            _understood(self._directory.datacenters, _request(host, "GET", "/v1/catalog/datacenters")[1])

        self._first(look)

    def _look_in(self, name: str) -> None:
        path = f"/v1/catalog/service/{SERVICE}?stale&dc={quote(name, safe='')}"

        def look(host: Host) -> None:
            _understood(self._directory.entries, name, _request(host, "GET", path)[1])

        self._first(look)

    def _first(self, ask: Callable[[Host], None]) -> None:
        """By the first host that answers. Raises NoAnswer."""
        failures = []
        for host in self._hosts:
            try:
                return ask(host)
            except NoAnswer as failure:
                failures.append(f"{host}: {failure}")
        raise NoAnswer("; ".join(failures))

    def _try(self, what: str, do: Callable[[], object]) -> None:
        try:
            do()
        except NoAnswer as failure:
            if self._complaint.get(what) != str(failure):
                self._complaint[what] = str(failure)
                _log.warning("Consul's catalogue: can't %s: %s", what, failure)
        else:
            self._complaint.pop(what, None)

    def _tell(self) -> None:
        found = self._directory.catalogue()
        if found != self._told:
            if self._told is None or found.peers.keys() != self._told.peers.keys():
                _log.info("Consul's catalogue names %s", ", ".join(sorted(found.peers)) or "nobody")
            self._told = found
            self._on_found(found)


def _request(host: Host, method: str, path: str, body: bytes = b"", *, also: int = 200) -> tuple[int, bytes]:
    """Status, which is 200 or `also`, and body of the answer. Raises NoAnswer."""
    return host.request(method, path, body, timeout_s=ANSWER_S, also=(also,))


def _understood(understand: Callable[..., T], *args: object) -> T:
    try:
        return understand(*args)
    except ValueError as error:  # msgspec's errors are ValueErrors
        raise NoAnswer(f"an answer that isn't one: {error}") from error

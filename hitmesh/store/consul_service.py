"""An instance in Consul's catalogue, by which others find it: `consul catalog services`, `collector.service.consul`.

It registers itself with the agent that its totals' URL names, under its role, and says again and again how it
is by what it knows of itself; no port is tried. Whoever says nothing for TTL_S is critical, and taken out by the
agent a while later; who drains takes itself out.

Invariants:
- Nothing that the agent answers, or doesn't, reaches the role: it is in the log, once for each kind.
- An entry is of a name, and of one process at a time: one that ends doesn't take its successor out.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Mapping
from functools import partial
from typing import Any, Final
from urllib.parse import quote

import gevent
from gevent.event import Event
from gevent.lock import BoundedSemaphore
from msgspec import MsgspecError, Struct, json

from hitmesh import __version__
from hitmesh.config import Config
from hitmesh.config.addresses import host_port
from hitmesh.hub.blocking import call_blocking, socket_is_cooperative
from hitmesh.state.dues import told
from hitmesh.store.consul_host import Host, NoAnswer
from hitmesh.store.urls import consul_place, is_consul

BEAT_S: Final = 4.0
TTL_S: Final = 15  # two beats may get lost, and a third one be late
GONE_AFTER: Final = "1m"  # critical for so long, an entry is taken out; Consul knows nothing shorter
ANSWER_S: Final = 3.0  # an agent answers such things by itself, in a millisecond
FAREWELL_S: Final = 1.0  # that an instance waits at its end for being taken out
MAX_OUTPUT_CHARS: Final = 400  # of why it fails, as Consul shows it
# The endpoints that others may look for, the first there is. A scaler has none without an admin port.
FOUND_BY: Final = ("http", "tls", "batches", "heartbeats", "records", "admin")

_log = logging.getLogger(__name__)


class _Entry(Struct, rename="pascal"):
    meta: Mapping[str, str] = {}


class ConsulService:
    """One instance's entry, `definition`: `run` is a greenlet, which ends with `stop`.

    `why_not` says why it can't do its work, empty when it can; it may wait.
    """

    def __init__(self, hosts: Collection[Host], definition: Mapping[str, Any], why_not: Callable[[], str]) -> None:
        self._hosts = hosts
        self._definition = definition
        self._why_not = why_not
        self._at: list[Host] = []  # where it has been registered, the last one at the end
        self._stamp = ""  # of the token that it has registered with last
        self._complaint = ""
        self._asking = BoundedSemaphore()  # or an entry that is being made is there after it was taken out
        self._stopped = Event()

    @classmethod
    def of(
        cls,
        config: Config,
        *,
        role: str,
        name: str,
        instance_id: str,
        endpoints: Mapping[str, str],
        why_not: Callable[[], str] = str,
    ) -> ConsulService | None:
        """Of an instance of a datacenter whose totals are in Consul; None: others have no catalogue. Raises ConfigError."""
        if not is_consul(config.stores.totals):
            return None
        hosts, prefix = consul_place("stores.totals", config.stores.totals, role)
        endpoint = next((endpoints[kind] for kind in FOUND_BY if kind in endpoints), "")
        return cls(hosts, definition(config.name, role, name, instance_id, endpoint, prefix), why_not)

    def run(self, state: Callable[[], str]) -> None:
        """Say how it is, `state` being that of its heartbeats, until it is stopped."""
        while not self._stopped.is_set():
            word, why = told(state())
            why = self._why_not() if word == "up" else why or word
            with self._asking:
                if not self._stopped.is_set():
                    self._say({"Status": "critical" if why else "passing", "Output": why[:MAX_OUTPUT_CHARS]})
            self._stopped.wait(BEAT_S)

    def stop(self) -> None:
        """Be in no catalogue any more; waits FAREWELL_S at most."""
        self._stopped.set()
        if not gevent.with_timeout(FAREWELL_S, self._take_out, timeout_value=False):
            self._complain(
                f"no answer within {FAREWELL_S:g} s; it is taken out when it has been critical for {GONE_AFTER}"
            )

    # --- within ---------------------------------------------------------------------------

    def _take_out(self) -> bool:
        with self._asking:
            for host in self._at:
                self._try(partial(self._deregister, host))
        return True

    def _say(self, status: Mapping[str, str]) -> None:
        failures = []
        for host in [*self._at[-1:], *(host for host in self._hosts if host not in self._at[-1:])]:
            try:
                return self._say_at(host, status)
            except NoAnswer as failure:
                failures.append(f"{host}: {failure}")
        self._complain("; ".join(failures))
        return None

    def _say_at(self, host: Host, status: Mapping[str, str]) -> None:
        path = f"/v1/agent/check/update/{quote(self._definition['Check']['CheckID'])}"
        body = json.encode(status)
        stamp = host.stamp()  # the agent goes on by the token of the registration
        is_known = (
            host in self._at[-1:]
            and stamp == self._stamp
            and _request(host, "PUT", path, body, also=(404, 500))[0] == 200
        )
        if not is_known:
            check = self._definition["Check"] | {"Status": status["Status"]}  # it may be there, and well
            _request(host, "PUT", "/v1/agent/service/register", json.encode({**self._definition, "Check": check}))
            self._stamp = stamp
            if self._at[-1:] != [host]:
                self._at = [*(one for one in self._at if one != host), host]
            _request(host, "PUT", path, body)
        self._complaint = ""

    def _deregister(self, host: Host) -> None:
        where = quote(self._definition["ID"])
        status, body = _request(host, "GET", f"/v1/agent/service/{where}", also=(404,))
        if status == 404 or _meta(body).get("id") != self._definition["Meta"]["id"]:
            return  # the process after this one has it
        _request(host, "PUT", f"/v1/agent/service/deregister/{where}")

    def _try(self, do: Callable[[], object]) -> None:
        try:
            do()
        except NoAnswer as failure:
            self._complain(str(failure))

    def _complain(self, text: str) -> None:
        if text != self._complaint:
            self._complaint = text
            _log.warning("Consul's catalogue doesn't say how %s is: %s", self._definition["ID"], text)


def definition(dc: str, role: str, name: str, instance_id: str, endpoint: str, prefix: str) -> dict[str, Any]:
    """What is registered of an instance that others reach at `endpoint`, SCHEME://HOST:PORT[/KEY]; empty: nowhere."""
    host, port = host_port(endpoint.partition("://")[2].partition("/")[0]) if endpoint else ("", 0)
    where = f"hitmesh-{dc}-{name}"
    return {
        "ID": where,
        "Name": role,
        "Address": host,
        "Port": port,
        "Tags": [dc, f"v{__version__.replace('.', '-')}"],  # without dots, which DNS takes for labels' ends
        "Meta": {"dc": dc, "name": name, "id": instance_id, "version": __version__, "prefix": prefix},
        "Check": {
            "CheckID": f"service:{where}",
            "Name": "what it knows of itself",
            "TTL": f"{TTL_S}s",
            "Status": "critical",  # until it has said how it is
            "DeregisterCriticalServiceAfter": GONE_AFTER,
        },
    }


def _request(host: Host, method: str, path: str, body: bytes = b"", also: Collection[int] = ()) -> tuple[int, bytes]:
    ask = partial(host.request, method, path, body, timeout_s=ANSWER_S, also=also)
    return ask() if socket_is_cooperative() else call_blocking(ask)


def _meta(body: bytes) -> Mapping[str, str]:
    try:
        return json.decode(body, type=_Entry).meta
    except MsgspecError:
        return {}

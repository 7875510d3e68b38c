"""What the balancers of a datacenter say of themselves: their admin listeners' `/stats.json`, asked again and again.

Each has its own greenlet and pace, so that one that hangs holds up no other. What they say is checked as it is read:
figures that aren't there are 0, and whoever says what can't be is one that couldn't be asked.
"""

from __future__ import annotations

import http.client
import time
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

import gevent
import msgspec
from msgspec import Struct

from hitmesh.config import Config
from hitmesh.dashboard.pacing import pause_s
from hitmesh.dashboard.status import Backend, Balancer
from hitmesh.dashboard.unreached import why_not
from hitmesh.mesh.duty import spawn

if TYPE_CHECKING:
    import ssl

TIMEOUT_S: Final = 2.0  # a balancer whose workers are busy answers within one
MAX_BYTES: Final = 8 * 1024 * 1024  # a thousand backends are half of one
MAX_BACKENDS: Final = 1_000  # as many as are shown


class _Check(Struct):
    text: str = ""


class _BackendSaid(Struct):
    address: str = ""
    status: str = ""
    downtime_s: float = 0.0
    weight: float = 1.0
    check: _Check = msgspec.field(default_factory=_Check)
    sessions: int = 0
    rate: float = 0.0
    classes: dict[str, int] = {}
    retries: int = 0
    answered: int = 0
    mean_s: dict[str, float] = {}


class _ServiceSaid(Struct):
    queue: int = 0
    held: int = 0
    backends: dict[str, _BackendSaid] = {}


class _FrontSaid(Struct):
    sessions: int = 0
    request_rate: float = 0.0
    classes: dict[str, int] = {}


class _Said(Struct):
    fronts: dict[str, _FrontSaid] = {}
    services: dict[str, _ServiceSaid] = {}


class Balancers:
    """The balancers at these admin endpoints, as they last said; `follow` says who there is."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._where: dict[str, str] = {}  # name -> endpoint
        self._last: dict[str, Balancer] = {}
        self._stopped = False

    def follow(self, endpoints: Mapping[str, str]) -> None:
        """Ask these from now on, by name, and nobody else."""
        news = [name for name, endpoint in endpoints.items() if self._where.get(name) != endpoint]
        self._where = dict(endpoints)
        self._last = {name: each for name, each in self._last.items() if name in self._where}
        for name in news:
            spawn(f"the figures of {name}", self._run, name, endpoints[name])

    def stop(self) -> None:
        """Ask nobody any more."""
        self._stopped = True
        self._where = {}

    def shown(self, names: Collection[str], virtual_ip: Mapping[str, bool]) -> list[Balancer]:
        """The balancers of these names; whether each has the virtual IP, if there is one."""
        return [
            msgspec.structs.replace(
                self._last.get(name, Balancer(key=name, name=name)), has_virtual_ip=virtual_ip.get(name)
            )
            for name in names
        ]

    def _run(self, name: str, endpoint: str) -> None:
        while not self._stopped and self._where.get(name) == endpoint:
            began = time.monotonic()
            found = ask(name, endpoint, self._config)
            took_s = time.monotonic() - began
            if self._where.get(name) == endpoint:
                self._last[name] = found
            gevent.sleep(pause_s(0.0 if found.why else took_s))


def ask(name: str, endpoint: str, config: Config) -> Balancer:
    """What one balancer says of itself, or why it doesn't. Raises nothing."""
    place = urlsplit(endpoint)
    connection: http.client.HTTPConnection | None = None
    try:
        host, port = place.hostname or "", place.port or 0
        if place.scheme == "https":
            connection = http.client.HTTPSConnection(host, port, timeout=TIMEOUT_S, context=_context(config))
        else:
            connection = http.client.HTTPConnection(host, port, timeout=TIMEOUT_S)
        token = config.balancer.admin_token
        connection.request("GET", "/stats.json", headers={"Authorization": f"Bearer {token}"} if token else {})
        answer = connection.getresponse()
        body = answer.read(MAX_BYTES)
        if answer.status != http.client.OK:
            return Balancer(key=name, name=name, why=f"it answers {answer.status} {answer.reason}"[:200])
        return understood(name, body)
    except (OSError, http.client.HTTPException, ValueError) as error:
        return Balancer(key=name, name=name, why=why_not(error, TIMEOUT_S)[:200])
    finally:
        if connection is not None:
            connection.close()


def understood(name: str, body: bytes) -> Balancer:
    """A balancer's figures, of its JSON."""
    try:
        said = msgspec.json.decode(body, type=_Said)
    except (ValueError, RecursionError) as error:
        return Balancer(key=name, name=name, why=f"what it says can't be understood: {error}"[:200])
    fronts = [front for kind, front in said.fronts.items() if kind != "admin"]
    backends = [
        _backend(service, backend, each)
        for service, found in said.services.items()
        for backend, each in found.backends.items()
    ]
    return Balancer(
        key=name,
        name=name,
        requests_per_s=round(sum(front.request_rate for front in fronts), 1),
        classes=_sums(front.classes for front in fronts),
        connections=sum(front.sessions for front in fronts),
        waiting=sum(each.queue for each in said.services.values()),
        held=sum(each.held for each in said.services.values()),
        backends=backends[:MAX_BACKENDS],
    )


def _backend(service: str, name: str, said: _BackendSaid) -> Backend:
    return Backend(
        key=f"{service} {said.address or name}",
        service=service,
        name=name,
        address=said.address,
        status=said.status,
        why=said.check.text,
        sessions=said.sessions,
        requests_per_s=round(said.rate, 1),
        classes=said.classes,
        retries=said.retries,
        mean_s=said.mean_s.get("total") if said.answered else None,
        weight=said.weight,
        downtime_s=round(said.downtime_s),
    )


def _sums(tables: Any) -> dict[str, int]:
    found: dict[str, int] = {}
    for table in tables:
        for key, count in table.items():
            found[key] = found.get(key, 0) + count
    return found


def _context(config: Config) -> ssl.SSLContext:
    """Of an admin listener with TLS: whoever shows one of the configured certificates is it, whatever name is in it."""
    import ssl as plain

    from gevent.ssl import SSLContext  # roles patch all but TLS

    context = SSLContext(plain.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_flags |= plain.VERIFY_X509_PARTIAL_CHAIN
    for file in config.balancer.tls.certificates:
        context.load_verify_locations(Path(file))
    return context

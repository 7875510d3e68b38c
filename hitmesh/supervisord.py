"""supervisord, asked and told over XML-RPC on its Unix socket: which programs it has, and to start or stop one.

Owns no decision about what runs: that is its configuration. Knows nothing of how supervisord itself is started.
"""

from __future__ import annotations

import http.client
import re
import socket
import xmlrpc.client
from collections.abc import Callable
from enum import IntEnum
from pathlib import Path
from typing import Any, Final
from xml.parsers.expat import ExpatError

import msgspec
from msgspec import Struct

from hitmesh.errors import CommandError

RPC_TIMEOUT_S = 5.0  # supervisord answers in milliseconds, unless it is stopped itself
ENDED = ("STOPPED", "EXITED", "FATAL", "UNKNOWN")
NO_ANSWER = (OSError, xmlrpc.client.Error, http.client.HTTPException)
_OURS: Final = re.compile(
    r"(.+)-([a-z]+-[0-9]+)"
)  # as `hitmesh up` and `fab` name programs; others are somebody else's


class Faults(IntEnum):
    """What supervisord answers with when it refuses; the numbers are of its API."""

    BAD_NAME = 10
    ALREADY_STARTED = 60
    ALREADY_ADDED = 90


class _Info(Struct, frozen=True):
    """What supervisord says of a program, as far as it is asked for."""

    name: str
    statename: str
    pid: int
    now: int
    start: int
    spawnerr: str
    exitstatus: int


class Supervised(Struct, frozen=True):
    """One program as supervisord sees it."""

    full_name: str  # datacenter-role-number
    state: str  # supervisord's word, such as RUNNING
    pid: int  # 0 when there is none
    uptime_s: float
    why: str  # it isn't running

    @property
    def name(self) -> str:
        """The instance's name, without its datacenter."""
        return split_name(self.full_name)[1]

    @property
    def dc(self) -> str:
        """Its datacenter."""
        return split_name(self.full_name)[0]

    @property
    def role(self) -> str:
        """Its role, or the program it is."""
        return self.name.rsplit("-", 1)[0]


class Supervisord:
    """The supervisord that listens at what `find` says; None: there is none."""

    def __init__(self, find: Callable[[], Path | None]) -> None:
        self._find = find

    def programs(self) -> list[Supervised] | None:
        """Every program of a mesh, or None when supervisord doesn't answer, or not as it should."""
        try:
            infos = msgspec.convert(self.call("getAllProcessInfo"), list[_Info])
        except (*NO_ANSWER, msgspec.ValidationError):
            return None
        return [
            Supervised(
                full_name=info.name,
                state=info.statename,
                pid=info.pid,
                uptime_s=max(0.0, float(info.now - info.start)) if info.pid else 0.0,
                why=info.spawnerr or (f"ended with {info.exitstatus}" if info.statename == "EXITED" else ""),
            )
            for info in infos
            if is_ours(info.name)
        ]

    def reload(self) -> None:
        """Read the configuration anew: nothing starts or stops by that. Raises CommandError."""
        self._ask("reloadConfig")

    def add(self, name: str) -> None:
        """Start a program that the configuration has got, or one that has ended. Raises CommandError."""
        self._ask("addProcessGroup", name, but=Faults.ALREADY_ADDED)
        self._ask("startProcess", name, False, but=Faults.ALREADY_STARTED)

    def signal(self, name: str, signal_name: str) -> None:
        """Send a running program a signal, such as HUP. Raises CommandError."""
        self._ask("signalProcess", name, signal_name)

    def remove(self, name: str) -> None:
        """Forget a program that has ended. Raises CommandError."""
        self._ask("removeProcessGroup", name, but=Faults.BAD_NAME)

    def call(self, method: str, *arguments: object) -> Any:
        """Call a method of its API. Raises one of NO_ANSWER, of which a fault is its refusal."""
        path = self._find()
        if path is None:
            raise FileNotFoundError("supervisord's socket")
        with xmlrpc.client.ServerProxy("http://supervisor", transport=_UnixTransport(path)) as server:
            try:
                return getattr(server.supervisor, method)(*arguments)
            except (ExpatError, ValueError, TypeError, LookupError) as error:  # it was cut, or isn't XML-RPC at all
                raise xmlrpc.client.ResponseError(f"its answer can't be read: {error}") from error

    def _ask(self, method: str, *arguments: object, but: int = 0) -> None:
        """Call it; `but` is a fault that says that it is done already."""
        try:
            self.call(method, *arguments)
        except xmlrpc.client.Fault as fault:
            if fault.faultCode != but:
                said = fault.faultString.partition("Available names:")[0]  # it would list its environment
                raise CommandError(f"supervisord refuses {method}: {said}") from fault
        except NO_ANSWER as error:
            raise CommandError(f"supervisord doesn't answer {method}: {error}") from error


def is_ours(full_name: str) -> bool:
    """Whether a program is a mesh's, by its name."""
    return _OURS.fullmatch(full_name) is not None


def split_name(full_name: str) -> tuple[str, str]:
    """Datacenter and instance of a mesh's program by its name: eu-west-collector-1 is collector-1 of eu-west.

    Raises ValueError for somebody else's.
    """
    found = _OURS.fullmatch(full_name)
    if found is None:
        raise ValueError(f"{full_name!a} isn't DATACENTER-ROLE-NUMBER")
    return found[1], found[2]


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("supervisor", timeout=RPC_TIMEOUT_S)
        self._path = path

    def connect(self) -> None:
        connection = socket.socket(socket.AF_UNIX)
        try:
            connection.settimeout(RPC_TIMEOUT_S)
            connection.connect(str(self._path))
        except OSError:
            connection.close()
            raise
        self.sock = connection


class _UnixTransport(xmlrpc.client.Transport):
    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path

    def make_connection(self, host: tuple[str, dict[str, str]] | str) -> http.client.HTTPConnection:
        connection = _UnixConnection(self._path)
        self._connection = host, connection  # what `close` closes
        return connection

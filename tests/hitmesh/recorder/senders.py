"""Who sends records to a real recorder, and asks it, as the roles and commands of its datacenter do."""

from __future__ import annotations

import time
from contextlib import suppress
from types import TracebackType

import zmq

from hitmesh.config import Config
from hitmesh.mesh.connecting import connect
from hitmesh.mesh.network import Network
from hitmesh.mesh.sockets import open_socket
from hitmesh.protocol.messages import MAX_FRAME_BYTES, Entry, Records, encode, make
from tests.services import wait_for
from tests.services.keys import key_for
from tests.system.mesh import Mesh

MINUTE_MS = 60_000


def loads(mesh: Mesh, name: str) -> dict[str, float]:
    """What an instance says of itself in its heartbeats; nothing when it isn't heard."""
    return next(
        (dict(one.instance.load) for one in mesh.living() if one.instance.name == name and _is_now(mesh, one)), {}
    )


def state_of(mesh: Mesh, name: str) -> str:
    return next((one.instance.state for one in mesh.living() if one.instance.name == name and _is_now(mesh, one)), "")


def launch(mesh: Mesh, *names: str) -> None:
    """Start these, and wait until they are heard; nobody else need be there."""
    for name in names:
        mesh.launch(name)
    wait_for(
        lambda: set(names) <= {one.instance.name for one in mesh.living() if _is_now(mesh, one)},
        what=f"{names} to be up",
    )


def _is_now(mesh: Mesh, one: object) -> bool:
    return mesh._is_ours(one)  # type: ignore[arg-type]


class Sender:
    """A process of a role that sends records to one recorder."""

    def __init__(self, mesh: Mesh, recorder: str = "recorder-1", name: str = "collector-9", id: str = "0a") -> None:
        self._config: Config = mesh.config
        self.name, self._id = name, f"{name}.{id}"
        self._network = Network(zmq.Context(), key_for(mesh.config, "collector", name))
        self._socket = open_socket(self._network, zmq.PUSH, heartbeat_s=1.0, receive_bytes=MAX_FRAME_BYTES)
        self._socket.setsockopt(zmq.IMMEDIATE, 1)
        self._socket.setsockopt(zmq.SNDTIMEO, 30_000)
        found = wait_for(
            lambda: [
                one.instance.endpoints["records"] for one in mesh.living()
                if one.instance.name == recorder and _is_now(mesh, one)
            ],
            what=f"{recorder} to be heard",
        )  # fmt: skip
        connect(self._network, self._socket, found[0])
        self._next = 1

    def __enter__(self) -> Sender:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._socket.close(linger=1000)
        with suppress(zmq.ZMQError):
            self._network.close()

    def records(self, *entries: Entry, name: str = "") -> Records:
        first, self._next = self._next, self._next + len(entries)
        return make(Records, self._config.name, "collector", name or self.name, self._id, first, 0, entries)

    def send(self, message: Records) -> None:
        self._socket.send(encode(message))

    def say(self, text: str, *, level: int = 20) -> None:
        """Send a line of now."""
        self.send(self.records(Entry(int(time.time() * 1000), level, "tests", text, {})))

    def count(self, *minutes: int, **figures: float) -> None:
        """Send the figures of some minutes since 1970."""
        self.send(self.records(*(Entry(minute * MINUTE_MS, 0, "statistics", "", dict(figures)) for minute in minutes)))


def this_minute() -> int:
    return int(time.time()) // 60

"""The workers of one instance, to each other: everyone tells its picture to whom asks.

Worker 0 answers for all of them. They find each other by name: an abstract Unix socket each, with
the master's pid in it, so that a worker of an earlier generation that still drains is heard too.
Only processes of the same user are answered and believed.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Final

import gevent
import msgspec
from gevent.server import StreamServer

from balancer.measures.stats import Picture

ASK_S: Final = 0.5  # for one sibling's picture: a page is waiting
MAX_PICTURE_BYTES: Final = 4 * 1024 * 1024  # a thousand backends' worth
_CREDENTIALS: Final = struct.Struct("3i")  # SO_PEERCRED: pid, uid, gid
_NAMES: Final = Path("/proc/net/unix")

log = logging.getLogger(__name__)


class Siblings:
    """Tells `snapshot` to the other workers of this process's parent, and collects theirs."""

    def __init__(self, snapshot: Callable[[], Picture]) -> None:
        self._snapshot = snapshot
        self._prefix = f"hitmesh-balancer-{os.getppid()}-"
        self._name = f"{self._prefix}{os.getpid()}-{os.urandom(4).hex()}"  # nobody can be there before us
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        listener.bind(f"\0{self._name}")
        listener.listen()
        self._server = StreamServer(listener, self._tell)

    def start(self) -> None:
        """Begin to answer."""
        self._server.start()

    def stop(self) -> None:
        """Answer no more."""
        self._server.close()

    def pictures(self) -> list[Picture]:
        """Ours, and those of all others that answer in time."""
        jobs = [gevent.spawn(self._ask, name) for name in self._others()]
        gevent.joinall(jobs, timeout=2 * ASK_S)
        return [self._snapshot(), *(job.value for job in jobs if job.value is not None)]

    def _others(self) -> list[str]:
        words = _NAMES.read_bytes().split() if _NAMES.exists() else []  # others' names are of any bytes
        found = {word[1:].decode("ascii", "replace") for word in words if word.startswith(b"@" + self._prefix.encode())}
        return sorted(found - {self._name})

    def _ask(self, name: str) -> Picture | None:
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as asked:
                asked.settimeout(ASK_S)
                asked.connect(f"\0{name}")
                if not _is_ours(asked):
                    return None
                text = bytearray()
                while piece := asked.recv(64 * 1024):
                    text += piece
                    if len(text) > MAX_PICTURE_BYTES:
                        return None
            picture: Picture = msgspec.json.decode(text, type=dict)
        except (OSError, msgspec.DecodeError) as error:
            log.warning("worker %s doesn't tell its picture: %s", name, error)
            return None
        return picture

    def _tell(self, asking: socket.socket, _address: object) -> None:
        if _is_ours(asking):
            asking.settimeout(ASK_S)
            with contextlib.suppress(OSError):  # who asks has given up, or is gone
                asking.sendall(msgspec.json.encode(self._snapshot()))


def _is_ours(peer: socket.socket) -> bool:
    _, uid, _ = _CREDENTIALS.unpack(peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size))
    return bool(uid == os.geteuid())

"""A Nexus that hears everybody but the first one a while too late: it is slow, or the path to it is."""

from __future__ import annotations

import threading
import time

import zmq

from hitmesh.config import Config
from hitmesh.mesh.network import Socket
from hitmesh.protocol.messages import Change, Heartbeat, Leave, Lookup, decode, encode
from nexus.registry import Registry
from tests.services.nexus import endpoints


class LateNexus:
    """The configured Nexus, as a thread. `words` is what it took in, in order: who is shown, and who left."""

    def __init__(self, config: Config, *, late_s: float) -> None:
        self.words: list[tuple[str, str]] = []
        self._late_s = late_s
        self._due: dict[str, float] = {}  # by instance id: from when on it is heard
        timing = config.timing
        self._registry = Registry(
            "late",
            dc=config.name,
            interval_s=timing.heartbeat_s,
            missed=timing.missed_heartbeats,
            wan_missed=timing.wan_missed_heartbeats,
            now=time.monotonic(),
        )
        [own] = endpoints(config)
        self._context = zmq.Context()
        self._heartbeats = self._bind(zmq.SUB, own.heartbeats)
        self._heartbeats.setsockopt(zmq.SUBSCRIBE, b"")
        self._changes = self._bind(zmq.PUB, own.changes)
        self._lookups = self._bind(zmq.ROUTER, own.lookups)
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def __enter__(self) -> LateNexus:
        return self

    def __exit__(self, *_: object) -> None:
        self._ending.set()
        self._thread.join()
        self._context.destroy(linger=0)

    def _bind(self, kind: int, endpoint: str) -> Socket:
        one = self._context.socket(kind)
        one.bind(endpoint)
        return one

    def _run(self) -> None:
        while not self._ending.is_set():
            while self._heartbeats.poll(10):
                self._hear(decode(self._heartbeats.recv(), Heartbeat, Leave), time.monotonic())
            while self._lookups.poll(0):
                *envelope, request = self._lookups.recv_multipart()
                answer = self._registry.answer(decode(request, Lookup), time.monotonic())
                self._lookups.send_multipart([*envelope, encode(answer)])
            self._publish(self._registry.tick(time.monotonic()))

    def _hear(self, message: Heartbeat | Leave, now: float) -> None:
        if isinstance(message, Leave):
            self._note("left", message.id)
            self._publish(self._registry.leave(message.id, now))
        elif now >= self._due.setdefault(message.instance.id, now + self._late_s if self._due else now):
            self._note("shown", message.instance.id)
            self._publish(self._registry.heartbeat(message, now))

    def _note(self, what: str, id: str) -> None:
        if (what, id) not in self.words:
            self.words.append((what, id))

    def _publish(self, change: Change | None) -> None:
        if change is not None:
            self._changes.send(encode(change))

"""A role's records on their way: what it logs, and its figures of each minute, to one recorder of its datacenter.

It owns a handler of the root logger and a greenlet. Which recorder there is is told by whoever follows the mesh.

Invariants:
- Nothing here waits or raises into the role, nor logs, but for the first fault of its own: a recorder that is away, stopped, slow or full costs nobody anything.
- What no recorder takes is kept within a bound, and counted beyond it (hitmesh.state.outgoing).
"""

from __future__ import annotations

import contextlib
import logging
import resource
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Final

import gevent
from gevent.monkey import get_original

from hitmesh.config import Config
from hitmesh.mesh.network import Network
from hitmesh.mesh.pipes import Pushes
from hitmesh.protocol.messages import Instance, Records, encode
from hitmesh.state.keylist import Peer
from hitmesh.state.outgoing import DROPPED, Outgoing, entry_of, figures_of, in_order

SEND_S: Final = 1.0  # between two looks at what there is: so old a line is at most when it leaves
MINUTE_S: Final = 60
BATCHES: Final = 8  # at once: what has waited for a recorder goes out within a minute, and never holds the hub up
QUEUED: Final = 4  # batches on the way to one recorder: what is there when it dies is lost
# Threads log, too. A thread's own lock, not gevent's: it is held for some instructions, in which no greenlet switches.
_RLock: Final = get_original("_thread", "RLock")
_PAGE_BYTES: Final = resource.getpagesize()


class _Handler(logging.Handler):
    """Of the root logger. It takes no lock of logging's, which somebody may hold who writes."""

    def __init__(self, outgoing: Outgoing) -> None:
        super().__init__(logging.INFO)
        self._outgoing = outgoing

    def createLock(self) -> None:  # noqa: N802 - logging's name
        self.lock = None

    def emit(self, record: logging.LogRecord) -> None:
        with contextlib.suppress(Exception):  # whatever a line is made of, it isn't worth its process
            text = record.getMessage()
            if record.exc_info and record.exc_info[0] is not None:
                text += "\n" + logging.Formatter().formatException(record.exc_info)
            fields = getattr(record, "fields", None)
            self._outgoing.put(
                entry_of(
                    record.created, record.levelno, record.name, text, fields if isinstance(fields, Mapping) else None
                )
            )


class Recording:
    """Of one instance. `living` are the recorders of its datacenter, `figures` its statistics."""

    def __init__(
        self,
        config: Config,
        network: Network,
        who: Peer,
        id: str,
        *,
        living: Callable[[], Iterable[Instance]],
        figures: Callable[[], Mapping[str, float]],
    ) -> None:
        self._network = network
        self._living, self._figures = living, figures
        self._heartbeat_s = config.timing.heartbeat_s
        self._outgoing = Outgoing(who, id, _RLock())
        self._handler = _Handler(self._outgoing)
        self._minute = int(time.time()) // MINUTE_S
        self._pushes: Pushes | None = None
        self._sender: gevent.Greenlet[[], None] | None = None
        self._faults = 0

    def start(self) -> None:
        """Take what is logged from now on."""
        self._pushes = Pushes(self._network, heartbeat_s=self._heartbeat_s, queue_unconnected=False, queued=QUEUED)
        logging.getLogger().addHandler(self._handler)
        self._sender = gevent.spawn(self._run)

    def load(self) -> dict[str, float]:
        """The figure of heartbeats."""
        return {DROPPED: self._outgoing.dropped}

    def flush(self) -> None:
        """Hand over what there is, as far as that goes at once."""
        with contextlib.suppress(Exception):
            self._send()

    def stop(self) -> None:
        """Take no more, and say no more."""
        logging.getLogger().removeHandler(self._handler)
        if self._sender is not None:
            self._sender.kill()
        if self._pushes is not None:
            self.flush()
            self._pushes.close()

    def _run(self) -> None:
        while True:
            gevent.sleep(SEND_S)
            try:
                self._count()
                self._send()
            except Exception:
                self._faults += 1
                if self._faults == 1:
                    logging.getLogger(__name__).exception("a fault in what is recorded; it goes on")

    def _count(self) -> None:
        """At the end of each minute, by the clock of all: its figures."""
        now_s = time.time()
        minute, before = int(now_s) // MINUTE_S, self._minute
        self._minute = minute
        if minute != before:
            self._outgoing.put(figures_of({**self._figures(), **_process()}, minute * MINUTE_S * 1000))

    def _send(self) -> None:
        assert self._pushes is not None
        for _ in range(BATCHES):
            records = self._outgoing.batch()
            if records is None or not self._hand_over(records):
                return
            self._outgoing.taken(records)

    def _hand_over(self, records: Records) -> bool:
        """Whether one of the recorders has it."""
        assert self._pushes is not None
        endpoints = [
            endpoint
            for one in in_order(self._living(), records.id)
            if (endpoint := one.endpoints.get("records", "")) and self._network.is_good(endpoint)
        ]
        self._pushes.keep_only(set(endpoints))
        frame = encode(records)
        return any(self._pushes.send(endpoint, frame) for endpoint in endpoints)


def of_config(
    config: Config,
    network: Network,
    who: Peer,
    id: str,
    *,
    living: Callable[[], Iterable[Instance]],
    figures: Callable[[], Mapping[str, float]],
) -> Recording | None:
    """The recording of an instance; None in a datacenter that has no recorder."""
    if not config.instances("recorder"):
        return None
    return Recording(config, network, who, id, living=living, figures=figures)


def _process() -> dict[str, float]:
    """What the process has taken of its host, as far as that can be told."""
    found = {"cpu_s": round(time.process_time(), 3)}
    with contextlib.suppress(OSError, ValueError, IndexError):
        resident = Path("/proc/self/statm").read_text(encoding="ascii").split()[1]
        found["memory_bytes"] = float(int(resident) * _PAGE_BYTES)
    return found

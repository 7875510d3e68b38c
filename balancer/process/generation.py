"""The workers of one configuration, a slot for each: started, started again, told to end.

Knows nothing of signals to the master, nor of other generations: the master decides when this
one takes connections and when it leaves.
"""

from __future__ import annotations

import math
import os
import signal
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final, Protocol

from msgspec import Struct

from balancer.process import beats, listeners
from balancer.process.beats import LOOK_S, Watch
from balancer.process.handover import Process
from balancer.process.listeners import Address, Bound, Given, Kind
from balancer.process.processes import KILL_GRACE_S, STEADY_S, Worker, delay_s, ending, keep_text, start_worker
from balancer.vip.place import VirtualIp


class Patience(Struct, frozen=True, kw_only=True):
    """How long a master waits, in seconds."""

    start_s: float = 30.0  # for a worker to be ready: it imports, and asks the Nexus and the settings store
    check_s: float = 30.0  # for the next version to load everything once
    grace_s: float = KILL_GRACE_S  # beyond the time that a worker has to drain, or if it has served nobody
    look_s: float = LOOK_S  # between two looks at the workers' beats
    again_s: float = 60.0  # before as many workers as couldn't be started are tried again


USUAL: Final = Patience()


class Plan(Struct, frozen=True, kw_only=True):
    """What a master must know of a configuration."""

    listen: Mapping[Kind, Address]
    workers: int  # at least
    drain_s: float  # that a worker has to finish its work
    text: bytes | None  # the configuration's, which the workers get; None: all is on the command line
    vip: VirtualIp | None = None  # where the instance has one


class Source(Protocol):
    """Where the configuration comes from."""

    def read(self) -> bytes | None:
        """Its text as it is now; None if all is on the command line. Raises ConfigError."""

    def plan(self, text: bytes | None) -> Plan:
        """What the master must know of it. Raises ConfigError."""


class Loss(Struct, frozen=True):
    """A worker that is no more, for people."""

    what: str
    next: str  # what is done about the next one


class Slot:
    """A worker's place: its sockets stay, the processes come and go."""

    def __init__(self, index: int, given: Given) -> None:
        self.index = index
        self.given = given
        self.worker: Worker | None = None
        self.deaths = 0  # in a row, each at once
        self.due = -math.inf  # when a worker is to be started, if there is none


class Generation:
    """One plan, its sockets and its workers."""

    def __init__(
        self,
        plan: Plan,
        bounds: Mapping[Kind, Bound],
        *,
        command: Sequence[str],
        alive_fd: int,
        patience: Patience,
        hung: int,
        told: int = 0,
        number: int = 1,
    ) -> None:
        """`hung`: how many workers of this instance were killed because they hung; `told`: how many are wanted at least;
        `number`: the how manieth of this instance it is.
        """
        self.number = number
        self.plan = plan
        self.bounds = bounds
        self.told = told
        """How many workers are wanted, as its former workers said: there are as many, if the plan doesn't say more."""
        self._command = command
        self._alive_fd = alive_fd
        self._start_s = patience.start_s
        self._watch = Watch(patience.look_s)
        self._hung = hung
        shares = listeners.share(bounds, max(plan.workers, told))
        self._slots = [Slot(index, given) for index, given in enumerate(shares)]
        self._text_fd = None if plan.text is None else keep_text(plan.text)

    @property
    def slots(self) -> int:
        """How many workers there are to be."""
        return len(self._slots)

    @property
    def is_ready(self) -> bool:
        """Whether every slot has a worker that could serve, or does."""
        return all(slot.worker is not None and slot.worker.ready for slot in self._slots)

    def adopt(self, processes: Iterable[Process], now: float) -> None:
        """Take workers over that serve already."""
        for each in processes:
            self._slots[each.index].worker = Worker(each.index, each.pid, now=now, channel=None, beats_fd=each.beats_fd)

    def start_due(self, now: float) -> list[Loss]:
        """Start the workers whose time has come; those that couldn't be, which are put off."""
        losses = []
        for slot in self._slots:
            if slot.worker is None and slot.due <= now:
                try:
                    slot.worker = start_worker(
                        self._command,
                        slot.index,
                        slot.given,
                        alive_fd=self._alive_fd,
                        text_fd=self._text_fd,
                        hung=self._hung,
                        generation=self.number,
                        now=now,
                    )
                except OSError as error:
                    losses.append(_put_off(slot, now, f"worker {slot.index} can't be started: {error.strerror}"))
        return losses

    def heard(self, now: float) -> list[Worker]:
        """The workers that have become ready."""
        return [worker for worker in self._workers() if worker.heard(now)]

    def overdue(self, now: float) -> list[Worker]:
        """Those that should be ready by now."""
        return [worker for worker in self._workers() if not worker.ready and worker.since + self._start_s <= now]

    def hanging(self, now: float) -> Worker | None:
        """A worker that doesn't beat any more and must be killed; it isn't looked at again."""
        if now < self._watch.due:
            return None
        watched = {worker.pid: worker for worker in self._workers() if worker.last_beat()}
        pid = self._watch.look({pid: worker.last_beat() for pid, worker in watched.items()}, now)
        if pid is None:
            return None
        watched[pid].close()
        return watched[pid]

    def wanted(self) -> int | None:
        """How many workers are wanted at least, as the first one says; None: it doesn't know, or there is none."""
        first = self._slots[0].worker
        return first.wanted() if first is not None else None

    def tell_hung(self, count: int) -> None:
        """So many workers of this instance have been killed because they hung: its workers show it."""
        self._hung = count
        for worker in self._workers():
            if worker.beats_fd is not None:
                beats.tell_hung(worker.beats_fd, count)

    def lost(self, pid: int, status: int, now: float) -> Loss | None:
        """If the process was one of its workers: it has been reaped, and the next one is put off."""
        for slot in self._slots:
            worker = slot.worker
            if worker is not None and worker.pid == pid:
                if worker.ready and now - worker.since >= STEADY_S:
                    slot.deaths = 0
                worker.close()
                slot.worker = None
                return _put_off(slot, now, f"{worker} {ending(status)}")
        return None

    def next_at(self) -> float:
        """When something is due: a start, the end of one, or a look at the beats."""
        times = [slot.due for slot in self._slots if slot.worker is None]
        times += [worker.since + self._start_s for worker in self._workers() if not worker.ready]
        times += [self._watch.due for worker in self._workers() if worker.last_beat()]
        return min(times, default=math.inf)

    def begin(self) -> None:
        """All its workers may take connections."""
        for worker in self._workers():
            worker.begin()

    def serving(self) -> list[Process]:
        """The workers that could go on without this object."""
        return [Process(worker.index, worker.pid, worker.beats_fd) for worker in self._workers() if worker.ready]

    def dismiss(self, *, but: Iterable[Process] = ()) -> list[int]:
        """Tell its workers to end; their pids, which the caller reaps. They aren't ours any more."""
        kept = {each.pid for each in but}
        pids = []
        for slot in self._slots:
            if slot.worker is not None and slot.worker.pid not in kept:
                os.kill(slot.worker.pid, signal.SIGTERM)  # a child that isn't reaped: nobody else has its pid
                slot.worker.close()
                pids.append(slot.worker.pid)
                slot.worker = None
        return pids

    def close(self) -> None:
        """No worker is started any more."""
        if self._text_fd is not None:
            os.close(self._text_fd)
            self._text_fd = None

    def _workers(self) -> Iterator[Worker]:
        return (slot.worker for slot in self._slots if slot.worker is not None)


def _put_off(slot: Slot, now: float, what: str) -> Loss:
    slot.deaths += 1
    wait_s = delay_s(slot.deaths)
    slot.due = now + wait_s
    return Loss(what, "starts at once" if wait_s == 0 else f"starts in {wait_s:g} s, after {slot.deaths} in a row")

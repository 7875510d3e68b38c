"""The master process: keeps the sockets open and the workers running, through reloads and new versions.

It is told by signals: SIGHUP reads the configuration anew, SIGUSR2 makes it the newest version of
this program (same process, same sockets), SIGTERM and SIGINT drain and end, a SIGINT more ends at
once. Knows nothing of HTTP, of gevent, and of what a configuration means: a `Source` reads it.

Invariants:
- A generation of workers takes over only when all of it is ready; until then nothing is changed,
  and whatever goes wrong leaves the old one serving.
- A socket that clients may be queued on is open in a worker, or in this process and soon in one.
- One change at a time; a signal that comes meanwhile is remembered.
- There are as many workers as the first one says that the datacenter wants, and never fewer than the configuration says.
  Another number is another generation on the same sockets; one that fails is tried again after a while.
- Signals are blocked but for the one place that waits. What is pending stays so through `exec`.
"""

from __future__ import annotations

import functools
import logging
import math
import os
import signal
import socket
import time
from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

from balancer.process import handover, listeners
from balancer.process.beats import LOOKS
from balancer.process.generation import USUAL, Generation, Patience, Plan, Source
from balancer.process.handover import Handover
from balancer.process.leaving import Leaving
from balancer.process.listeners import Bound, Kind, ListenError
from balancer.process.parting import Parting, may_be_here
from balancer.process.processes import SIGNALS, ending, keep_text, reaped
from balancer.process.succession import Check, become_next, check_next
from balancer.vip.word import MAX_WORKERS, Stage, Word
from hitmesh.errors import ConfigError

log = logging.getLogger(__name__)

EXIT_FAILED: Final = 1
EXIT_INTERRUPTED: Final = 128 + signal.SIGINT
IDLE_S: Final = 3600.0  # of waiting when nothing is due: sigtimedwait takes no infinity


class Master:
    """One master. `command` starts this program again; `worker_command`, with a worker's options, a worker."""

    def __init__(
        self,
        source: Source,
        *,
        command: Sequence[str],
        worker_command: Sequence[str] | None = None,
        patience: Patience = USUAL,
    ) -> None:
        self._source = source
        self._command = list(command)
        self._worker_command = list(worker_command or command)
        self._patience = patience
        self._alive_fds = (-1, -1)
        self._current: Generation | None = None
        self._coming: Generation | None = None
        self._coming_why = ""
        self._check: Check | None = None
        self._leaving = Leaving()
        self._word: Word | None = None  # to the check of the virtual IP
        self._parting: Parting | None = None
        self._end_at = math.inf
        self._asked: set[int] = set()  # signals that wait for their turn
        self._stopping = False
        self._status = 0
        self._hung = 0  # workers that were killed because they hung
        self._generations = 0  # that there have been
        self._tried = 0, -math.inf  # the number of workers that was told and tried last, and until when it isn't again

    def run(self, plan: Plan, left: Handover | None = None) -> int:
        """Serve until told to stop; the exit status. Raises ListenError if it can't begin.

        `left` is what the former version's master left to this process. The process must be the
        caller's alone: its signals are blocked, its children reaped.
        """
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # inherited as ignored, nobody could be reaped
        signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        if left is None:
            self._start(plan)
        else:
            self._take_over(plan, left)
        while True:
            self._advance(time.monotonic())
            if self._stopping and not self._leaving and self._parting is None:
                return self._status
            received = signal.sigtimedwait(SIGNALS, self._idle_s(time.monotonic()))
            if received is not None and self._told(received.si_signo, time.monotonic()):
                return EXIT_INTERRUPTED

    def _start(self, plan: Plan) -> None:
        bounds = listeners.bind(plan.listen, workers=plan.workers)
        listeners.open_up(bounds)  # clients wait while the workers start
        self._alive_fds = os.pipe()
        self._come(plan, bounds, "serves", 0)

    def _take_over(self, plan: Plan, left: Handover) -> None:
        self._alive_fds = left.alive_fds
        self._leaving = Leaving(left.leaving)
        self._hung = left.hung
        # A kind that only the other version knows is closed with the others that aren't wanted.
        held: dict[Kind, Bound] = {
            each.kind: Bound(each.wanted, tuple(socket.socket(fileno=fd) for fd in each.fds))  # type: ignore[misc]
            for each in left.sockets
        }
        before = msgspec.structs.replace(plan, workers=left.slots, drain_s=left.drain_s)
        self._generations = left.generation - 1  # which goes on
        self._current = self._generation(before, held, left.told)
        self._current.adopt(left.workers, time.monotonic())
        self._replace(plan, "the new version serves", left.told)

    def _generation(self, plan: Plan, bounds: Mapping[Kind, Bound], told: int) -> Generation:
        self._generations += 1
        return Generation(
            plan,
            bounds,
            command=self._worker_command,
            alive_fd=self._alive_fds[0],
            patience=self._patience,
            hung=self._hung,
            told=told,
            number=self._generations,
        )

    # Events

    def _told(self, number: int, now: float) -> bool:
        """Take note of a signal; whether to end at once."""
        if number == signal.SIGINT and self._stopping:
            log.warning("interrupted again: ends at once")
            self._end({})
            self._leaving.kill_all()
            return True
        if number in (signal.SIGTERM, signal.SIGINT):
            self._stop(now, signal.Signals(number).name)
        elif number in (signal.SIGHUP, signal.SIGUSR2):
            self._asked.add(number)
        return False  # what SIGCHLD and SIGIO are about is looked at after every signal

    def _advance(self, now: float) -> None:
        """Bring everything up to date: who ended, who is ready, what is due."""
        for pid, status in reaped():
            self._ended(pid, status, now)
        self._leaving.kill_overdue(now)
        if self._check is not None and self._check.deadline <= now:
            log.error("the new version's check takes too long, and is killed")
            os.kill(self._check.pid, signal.SIGKILL)
            self._check = msgspec.structs.replace(self._check, deadline=math.inf)
        if self._current is not None:
            self._keep_up(self._current, now)
        if self._coming is not None:
            self._watch(self._coming, now)
        if self._parting is not None:
            has_finished = self._current is None and not self._leaving
            if self._parting.advance(now, has_finished=has_finished):
                self._parting = None
        if self._coming or self._check or self._stopping:
            return
        if self._asked:
            self._change(now)
        elif self._current is not None:
            self._resize(self._current, now)

    def _ended(self, pid: int, status: int, now: float) -> None:
        if self._leaving.ended(pid, status):
            return
        if self._check is not None and pid == self._check.pid:
            check, self._check = self._check, None
            if status == 0:
                self._become(check.text, now)
            else:
                log.error("nothing is changed: the new version's check %s", ending(status))
        elif self._coming is not None and (loss := self._coming.lost(pid, status, now)):
            self._abandon(f"{loss.what} before all were ready", now)
        elif self._current is not None and (loss := self._current.lost(pid, status, now)):
            log.error("%s; the next one %s", loss.what, loss.next)

    def _keep_up(self, current: Generation, now: float) -> None:
        for worker in current.heard(now):
            worker.begin()
            log.info("%s serves", worker)
        for worker in current.overdue(now):
            log.error("%s is not ready after %g s, and is killed", worker, self._patience.start_s)
            worker.since = math.inf  # once; what follows is its end
            os.kill(worker.pid, signal.SIGKILL)
        hanging = current.hanging(now)
        if hanging is not None:
            self._hung += 1
            log.error("%s hangs, and is killed: not a beat in %g s", hanging, LOOKS * self._patience.look_s)
            os.kill(hanging.pid, signal.SIGKILL)  # also if it is stopped; what follows is its end
            current.tell_hung(self._hung)
        for loss in current.start_due(now):
            log.error("%s; the next one %s", loss.what, loss.next)

    def _watch(self, coming: Generation, now: float) -> None:
        coming.heard(now)
        if coming.is_ready:
            self._switch(coming, now)
            return
        for worker in coming.overdue(now):
            self._abandon(f"{worker} is not ready after {self._patience.start_s:g} s", now)
            return

    def _idle_s(self, now: float) -> float:
        times = [now + IDLE_S, self._leaving.next_at()]
        times += [each.next_at() for each in (self._current, self._coming) if each is not None]
        if self._check is not None:
            times.append(self._check.deadline)
        if self._parting is not None:
            times.append(self._parting.next_at(now))
        return max(0.0, min(times) - now)

    # Generations

    def _change(self, now: float) -> None:
        """Begin what was asked for. A new version reads the configuration too."""
        becoming = signal.SIGUSR2 in self._asked
        self._asked.clear()
        try:
            text = self._source.read()
            if becoming:
                # What it means is the new version's to say.
                self._begin_check(text, now)
            else:
                plan = self._source.plan(text)
                assert self._current is not None
                self._replace(plan, "the configuration was read again; serves", self._current.told)
        except ConfigError as error:
            log.error("nothing is changed: %s", error)

    def _resize(self, current: Generation, now: float) -> None:
        """Begin to have as many workers as are wanted, where they are another number."""
        wanted = current.wanted()
        if wanted is None or not 0 <= wanted <= MAX_WORKERS:
            return
        if max(current.plan.workers, wanted) == current.slots:
            current.told = wanted
            return
        tried, until = self._tried
        if wanted != tried or now >= until:
            self._tried = wanted, now + self._patience.again_s
            why = f"{max(current.plan.workers, wanted)} workers are wanted; serves"
            self._replace(current.plan, why, wanted)

    def _replace(self, plan: Plan, why: str, told: int) -> None:
        assert self._current is not None
        try:
            bounds = listeners.bind(plan.listen, workers=max(plan.workers, told), held=self._current.bounds)
        except ListenError as error:
            log.error("nothing is changed: %s", error)
            return
        self._come(plan, bounds, why, told)

    def _come(self, plan: Plan, bounds: Mapping[Kind, Bound], why: str, told: int) -> None:
        now = time.monotonic()
        self._coming, self._coming_why = self._generation(plan, bounds, told), why
        for loss in self._coming.start_due(now):
            self._abandon(loss.what, now)
            return

    def _switch(self, coming: Generation, now: float) -> None:
        try:
            listeners.open_up(coming.bounds)
        except ListenError as error:
            self._abandon(str(error), now)
            return
        self._vouch(coming, now)
        self._tell_check(coming, Stage.SERVES)
        coming.begin()
        coming.tell_hung(self._hung)  # one may have been killed meanwhile
        old, self._current, self._coming = self._current, coming, None
        if old is not None:
            self._dismiss(old, now, old.plan.drain_s + self._patience.grace_s, kept=coming.bounds)
        where = listeners.describe(coming.bounds)
        log.info("%s %s; pid %s, workers: %s", self._coming_why, where, os.getpid(), coming.slots)

    def _abandon(self, why: str, now: float) -> None:
        assert self._coming is not None
        coming, self._coming = self._coming, None
        self._dismiss(coming, now, self._patience.grace_s, kept={} if self._current is None else self._current.bounds)
        if self._current is not None:
            log.error("nothing is changed: %s", why)
            return
        log.error("can't start: %s", why)
        self._status = EXIT_FAILED
        self._stopping = True

    def _dismiss(self, generation: Generation, now: float, within_s: float, *, kept: Mapping[Kind, Bound]) -> None:
        self._leaving.add(generation.dismiss(), kill_at=now + within_s)
        generation.close()
        listeners.close(generation.bounds, but=kept)

    def _stop(self, now: float, why: str) -> None:
        if self._stopping:
            return
        log.info("%s: drains and ends", why)
        self._stopping = True
        if self._coming is not None:
            kept = {} if self._current is None else self._current.bounds
            self._dismiss(self._coming, now, self._patience.grace_s, kept=kept)
        if self._check is not None:
            self._leaving.add([self._check.pid], kill_at=now)
        self._coming = self._check = None
        if self._current is None:
            return
        plan = self._current.plan
        self._end_at = now + plan.drain_s + self._patience.grace_s
        if plan.vip is not None and may_be_here(plan.vip.address):
            log.info("%s is here, and is given up first", plan.vip.address)
            tell = functools.partial(self._tell_check, self._current)
            self._parting = Parting(self._current, tell, self._end, now)
            return
        self._tell_check(self._current, Stage.GONE)
        self._end({})

    def _vouch(self, coming: Generation, now: float) -> None:
        """For workers that no former one has the place of: they beat from their begin on, and silence until then is a fault."""
        if self._word is not None and self._current is not None:
            for index in range(self._current.slots, coming.slots):
                self._word.beat(index, now=now, reached_at=0.0)

    def _tell_check(self, generation: Generation, stage: Stage) -> None:
        """Tell the check of the virtual IP, if there is one."""
        if generation.plan.vip is not None:
            self._word = self._word or Word(generation.plan.vip.said)
            self._word.tell(workers=generation.slots, stage=stage)

    def _end(self, kept: Mapping[Kind, Bound]) -> None:
        """Tell the last workers to end. With our sockets closed, nobody is queued once the last has closed its own."""
        if self._current is not None:
            current, self._current = self._current, None
            self._leaving.add(current.dismiss(), kill_at=self._end_at)
            current.close()
            listeners.close(current.bounds, but=kept)

    # The next version

    def _begin_check(self, text: bytes | None, now: float) -> None:
        try:
            self._check = check_next(self._command, text, self._handover(None), deadline=now + self._patience.check_s)
        except OSError as error:
            log.error("nothing is changed: the new version can't be started: %s", error.strerror)
            return
        log.info("checks the new version")

    def _become(self, text: bytes | None, now: float) -> None:
        """Make this process the new version's master. Returns only if that failed."""
        assert self._current is not None
        # One that hasn't begun: nobody would tell it to.
        self._leaving.add(self._current.dismiss(but=self._current.serving()), kill_at=now + self._patience.grace_s)
        text_fd = None if text is None else keep_text(text)
        log.info("the new version's check succeeded: becomes it")
        try:
            become_next(self._command, self._handover(text_fd))
        except OSError as error:
            log.error("nothing is changed: the new version can't be started: %s", error.strerror)
        if text_fd is not None:
            os.close(text_fd)

    def _handover(self, text_fd: int | None) -> Handover:
        assert self._current is not None
        return Handover(
            master=os.getpid(),
            sockets=tuple(
                handover.Socket(kind, bound.wanted, tuple(sock.fileno() for sock in bound.sockets))
                for kind, bound in self._current.bounds.items()
            ),
            alive_fds=self._alive_fds,
            text_fd=text_fd,
            slots=self._current.slots,
            workers=tuple(self._current.serving()),
            leaving=self._leaving.hand_over(),
            drain_s=self._current.plan.drain_s,
            hung=self._hung,
            generation=self._generations,
            told=self._current.told,
        )

"""Greenlets that a role can't do without: when one of them dies, so does the process.

A process that has lost its committer or its heartbeats but still answers is worse than a dead
one; supervisor restarts the dead one.
"""

from __future__ import annotations

import logging
import os
import sys
import time
from collections.abc import Callable
from typing import NoReturn

import gevent

from hitmesh.state.histogram import Histogram

EXIT_BROKEN = 70  # EX_SOFTWARE of sysexits.h
EXIT_UNFIT = 4  # with which gunicorn's master ends as well, instead of starting the next worker
BUSY_S = 1.5  # for which the use of the CPU is measured: with heartbeats each second, two of them
FLICKER = 0.02  # less of a change isn't told
LAG_PROBE_S = 0.1  # how often the hub's lag is measured

log = logging.getLogger(__name__)


def spawn(name: str, work: Callable[..., None], *args: object) -> gevent.Greenlet[..., None]:
    """Run `work` in a greenlet. It may return; an exception ends the process with EXIT_BROKEN."""
    return gevent.spawn(_guard, name, work, args)


def _guard(name: str, work: Callable[..., None], args: tuple[object, ...]) -> None:
    try:
        work(*args)
    except gevent.GreenletExit:
        raise
    except BaseException:
        log.exception("%s died; ending the process", name)
        sys.stderr.flush()
        os._exit(EXIT_BROKEN)


def give_up(why: str) -> NoReturn:
    """End the process with EXIT_UNFIT: another one of this release would do no better."""
    log.error("ending the process: %s", why)
    sys.stderr.flush()
    os._exit(EXIT_UNFIT)


class CpuMeter:
    """Which share of one CPU this process uses, in hundredths: of the last BUSY_S or a little more.

    An idle one's doesn't flicker: each change of a load is told to the whole mesh.
    """

    def __init__(self) -> None:
        self._at, self._used_s = time.monotonic(), time.process_time()
        self._share = 0.0

    def read(self) -> float:
        """The share."""
        now = time.monotonic()
        if now - self._at >= BUSY_S:
            used_s = time.process_time()
            share = round((used_s - self._used_s) / (now - self._at), 2)
            if abs(share - self._share) >= FLICKER:
                self._share = share
            self._at, self._used_s = now, used_s
        return self._share


class LagMeter:
    """How long the hub keeps callbacks waiting: the longest in the last few seconds, in seconds.

    A handler that blocks the hub makes a living process look dead; this shows it. In whole
    milliseconds, so that an idle hub's reading doesn't flicker (each change of a load is told to
    the whole mesh).
    """

    def __init__(self) -> None:
        self.histogram = Histogram()
        """All of it since the start: one in LAG_PROBE_S."""
        self._worst = 0.0
        self._previous = 0.0
        self._stopped = False

    def start(self) -> None:
        """Begin to measure."""
        spawn("lag meter", self._run)

    def stop(self) -> None:
        """Measure no more."""
        self._stopped = True

    def read(self) -> float:
        """The worst lag since the reading before the last one."""
        worst = max(self._worst, self._previous)
        self._previous, self._worst = self._worst, 0.0
        return int(worst * 1000) / 1000

    def _run(self) -> None:
        while not self._stopped:
            before = time.monotonic()
            gevent.sleep(LAG_PROBE_S)
            lag_s = max(0.0, time.monotonic() - before - LAG_PROBE_S)
            self.histogram.observe(lag_s)
            self._worst = max(self._worst, lag_s)

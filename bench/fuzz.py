"""A million connections that went wrong, through one balancer to the strict backend.

    .venv/bin/python -m bench.fuzz                  # a million; some minutes
    .venv/bin/python -m bench.fuzz --count 20000 --seed 7
    .venv/bin/python -m bench.fuzz --show 123456    # what that connection sent, and what must come of it

Each is a case of the tests' corpus, changed at random: the same for the same seed and number. It
must be answered or closed in time, as the oracle says; the backend must refuse nothing, and must
have counted exactly what was answered; the balancer's memory must not grow. Exit status 1 if not.
"""

from __future__ import annotations

import argparse
import multiprocessing
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Final

from tests.balancer.wire.backend import Counts, StrictBackend
from tests.balancer.wire.clients import Talk, talk_all
from tests.balancer.wire.mutate import Mutator
from tests.balancer.wire.oracle import End, Reading, read
from tests.balancer.wire.outcomes import outcome_of, wrong_with
from tests.balancer.wire.proxies import Balancer

AT_ONCE: Final = 128  # connections: enough to keep the balancer busy
REPORT_S: Final = 5.0
SHOWN: Final = 10  # of what was wrong
# What the workers may grow by after the first tenth of the connections: allocators keep what was used
# once, whatever the count. Of a million connections, a leak of five bytes each is more.
GROWTH_BYTES: Final = 4 * 1024 * 1024


def main() -> int:
    """Run it; 1 when anything was wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=1_000_000, help="connections")
    parser.add_argument("--seed", type=int, default=0, help="of their bytes")
    parser.add_argument("--show", type=int, metavar="NUMBER", help="only print that connection")
    options = parser.parse_args()
    if options.show is not None:
        data = _Cases(options.seed).data(options.show)
        print(f"{data!r}\n{read(data, own=b'own.example')}")
        return 0
    ours, its = multiprocessing.Pipe()
    backend = multiprocessing.Process(target=_serve, args=(its, ours), daemon=True)
    backend.start()
    its.close()
    with tempfile.TemporaryDirectory(prefix="hitmesh-fuzz-") as folder:
        balancer = Balancer(Path(folder), ours.recv())
        balancer.start()
        try:
            return _Fuzz(balancer, ours, options.seed).run(options.count)
        finally:
            balancer.stop()
            ours.close()
            backend.join(10)


def _serve(pipe: Connection, other_end: Connection) -> None:
    """The backend's process: says its port, then its counts whenever it is asked, until nobody is there."""
    other_end.close()  # or nobody would ever be gone
    with StrictBackend(close_every=1000, records=False) as backend:
        pipe.send(backend.port)
        try:
            while True:
                pipe.recv()
                pipe.send(backend.counts)
        except EOFError:
            pass


class _Cases:
    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._rng = random.Random()
        self._mutator = Mutator(self._rng)

    def data(self, number: int) -> bytes:
        """The bytes of one connection."""
        self._rng.seed((self._seed << 40) + number)
        return self._mutator.one()


class _Fuzz:
    def __init__(self, balancer: Balancer, backend: Connection, seed: int) -> None:
        self._balancer = balancer
        self._backend = backend
        self._cases = _Cases(seed)
        self._own = b"127.0.0.1:%d" % balancer.port
        self._readings: dict[int, tuple[int, Reading]] = {}  # of the talks under way, by id
        self._answered = bytearray()  # a byte per serial number: how often it came back
        self._wrong: list[str] = []
        self._ends: Counter[str] = Counter()
        self._rss: list[int] = []
        self._started = time.monotonic()

    def run(self, count: int) -> int:
        """All of them; the exit status."""
        reported = self._started
        done = 0
        for talk in talk_all(self._balancer.port, self._talks(count), at_once=AT_ONCE):
            self._judge(talk)
            done += 1
            now = time.monotonic()
            if now - reported > REPORT_S or done == count or done == count // 10:
                reported = now
                self._report(done, count)
        return self._conclude(done)

    def _talks(self, count: int) -> Iterator[Talk]:
        for number in range(count):
            data = self._cases.data(number)
            reading = read(data, own=self._own)
            waits = reading.end in (End.INCOMPLETE, End.OPEN)
            talk = Talk([data], half_close_after=len(reading.seen) if waits else None)
            self._readings[id(talk)] = (number, reading)
            yield talk

    def _judge(self, talk: Talk) -> None:
        number, reading = self._readings.pop(id(talk))
        outcome = outcome_of(talk)
        self._ends[reading.end.name.lower()] += 1
        for answer in outcome.counted:
            if answer.serial >= len(self._answered):
                self._answered.extend(bytes(answer.serial + 10_000 - len(self._answered)))
            self._answered[answer.serial] += 1
        if what := wrong_with(outcome, reading):
            self._wrong.append(f"connection {number}: {what}")
            if len(self._wrong) <= SHOWN:
                print(f"{self._wrong[-1]}\n  {talk.pieces[0]!r}", flush=True)

    def _report(self, done: int, count: int) -> None:
        rss = sum(_rss(pid) for pid in self._balancer.workers())
        if done >= count // 10:
            self._rss.append(rss)
        passed_s = time.monotonic() - self._started
        print(
            f"{done:>9} of {count}, {passed_s:6.1f} s, {done / passed_s:6.0f}/s, {len(self._wrong)} wrong, "
            f"balancer {rss / 2**20:.1f} MiB",
            flush=True,
        )

    def _conclude(self, done: int) -> int:
        self._backend.send("counts")
        counts: Counts = self._backend.recv()
        answered = sum(self._answered)
        conserved = answered == counts.accepted and self._answered[1 : counts.accepted + 1].count(1) == counts.accepted
        grown = max(self._rss) - self._rss[0]
        flat = grown <= GROWTH_BYTES
        print(f"{done} connections: {dict(self._ends)}")
        print(f"counted by the backend {counts.accepted}, answered {answered}, refused by it {len(counts.refused)}")
        for why, data in counts.refused[:SHOWN]:
            print(f"  {why}: {data!r}")
        print(f"memory after a tenth {self._rss[0] / 2**20:.1f} MiB, most since then {grown / 2**20:+.1f} MiB")
        good = done and conserved and flat and not counts.refused and not self._wrong
        print("all is well" if good else f"NOT WELL: {len(self._wrong)} wrong, {conserved=}, {flat=}")
        return 0 if good else 1


def _rss(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * 4096


if __name__ == "__main__":
    sys.exit(main())

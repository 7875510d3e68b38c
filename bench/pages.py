"""How a mesh grows with its pages: memory, commit rate, take-over, a list of the largest totals.

Two datacenters, each with a Consul server and two processors of its own, are filled with one hit on
every page, each with all pages at the same time, so that each has to commit the other's rows as well.
Then every page gets another hit (of at most 100,000 pages), the largest totals are asked for, and a
processor is killed. In the end both stores must hold the same counts, page by page.

It prints a Markdown table, a column for each number of pages. The memory of a process is what the
kernel calls resident; a Consul server's includes garbage that its runtime hasn't collected.
"""

from __future__ import annotations

import argparse
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from bench.datacenters import BIN, Datacenter, kill
from bench.growth import Column, table
from bench.ports import free_block
from hitmesh.cli import folder

HERE = Path(__file__).parent
NAMES = ("pages-a", "pages-b")
BATCH = 10_000  # pages of a POST /hits: a collector's limit
WINDOW = 30_000  # hits sent and not yet committed: as many rows as all partitions commit in one round
AGAIN = 100_000  # pages that get a second hit
LOOK_S = 0.5  # between two looks at how far it is
MOMENTS = 10  # looks at the middle of a filling, from which its rates are told
TELL_S = 5.0  # between two lines about it
STALL_S = 60.0  # without a commit, after which it is given up
SETTLE_S = 10.0  # for Consul to write its snapshot, and to give memory back
LISTS = 3
LIST_PAUSE_S = 1.5  # a collector's list serves for a second
HIT_PAUSE_S = 0.02
TAKE_OVER_S = 180.0
SAME_S = 60.0  # for what was under way at the kill
TAKE_OVER_LOOK_S = 0.02


def main() -> int:
    """Run the bench; 1 when something it needs is missing, or the datacenters don't agree."""
    parser = argparse.ArgumentParser(prog="bench/run pages", description=__doc__)
    parser.add_argument("--count", type=int, nargs="+", default=[100_000], help="of pages; a column for each")
    parser.add_argument("--keep", action="store_true", help="leave the state folders, with their logs, for reading")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that what was started is stopped
    if shutil.which("consul") is None:
        print("not installed: consul; scripts/install-services does it", file=sys.stderr)
        return 1
    columns = []
    for count in options.count:
        state_dir = Path(tempfile.mkdtemp(prefix="hitmesh-pages-"))
        try:
            with _running(state_dir) as datacenters:
                columns.append(_measure(datacenters, count))
        finally:
            if options.keep:
                _tell(f"logs: {state_dir / 'log'}")
            else:
                shutil.rmtree(state_dir, ignore_errors=True)
    print("\n".join(table(columns)))
    return 0 if all(column.same for column in columns) else 1


@contextmanager
def _running(state_dir: Path) -> Iterator[list[Datacenter]]:
    command = [str(BIN / "hitmesh"), "up", "-d", "--consul", "--config", str(HERE / "pages.toml")]
    command += ["--dcs", ",".join(NAMES), "--state-dir", str(state_dir), "--base-port", str(free_block(len(NAMES)))]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    datacenters: list[Datacenter] = []
    try:
        datacenters += [Datacenter(config, state_dir) for config in folder.datacenters(state_dir)]
        yield datacenters
    finally:
        for each in datacenters:
            each.close()
        down = [str(BIN / "hitmesh"), "down", "--state-dir", str(state_dir)]
        subprocess.run(down, check=False, stdout=subprocess.DEVNULL)


def _measure(datacenters: Sequence[Datacenter], count: int) -> Column:
    column = Column(count)
    time.sleep(SETTLE_S)
    consul_before = [each.consul_bytes()[0] for each in datacenters]
    processors_before = [each.processor_bytes() for each in datacenters]
    column.fill_s, column.commits_per_s, column.rows_per_s = _fill(datacenters, count, "filling")
    column.agree_s = _agree(datacenters, count)
    time.sleep(SETTLE_S)
    consul = [(each.consul_bytes(), before) for each, before in zip(datacenters, consul_before, strict=True)]
    column.consul_bytes = max(now - before for (now, _), before in consul)
    column.consul_peak_bytes = max(peak - before for (_, peak), before in consul)
    processors = zip(datacenters, processors_before, strict=True)
    column.processor_bytes = max(each.processor_bytes() - before for each, before in processors)
    again = min(count, AGAIN)
    _, column.again_commits_per_s, column.again_rows_per_s = _fill(datacenters, again, "every page again")
    _agree(datacenters, count + again)
    _tell("the largest totals")
    column.list_s, column.list_bytes, column.hit_s = _list(datacenters[0])
    _take_over(datacenters[0], column)
    _tell("comparing the stores")
    deadline_s = time.monotonic() + SAME_S
    while column.agree_s is not None and not column.same and time.monotonic() < deadline_s:
        column.same = _are_same(datacenters, count + again)
    return column


# --- hits ---------------------------------------------------------------------------------


def _page(number: int) -> str:
    return f"site-{number % 50:02}.example.com/articles/{number:07}"


def _fill(datacenters: Sequence[Datacenter], count: int, what: str) -> tuple[float, float, float]:
    """One hit on each page in each datacenter; how long until all were committed, commits/s and rows/s of the slower."""
    begun = told_s = time.monotonic()
    senders = [_Sender(each, count) for each in datacenters]
    while any(sender.committed < count for sender in senders):
        time.sleep(LOOK_S)
        now_s = time.monotonic()
        for sender in senders:
            sender.look(now_s)
        if now_s - max(sender.moved_s for sender in senders) > STALL_S:
            raise SystemExit(f"nothing was committed for {STALL_S:.0f} s, of {count:,} hits {_committed(senders)} are")
        if now_s - told_s > TELL_S:
            told_s = now_s
            _tell(f"{what}: {_committed(senders)} of {count:,} committed")
    return time.monotonic() - begun, *min((sender.rates() for sender in senders), key=lambda rates: rates[1])


def _committed(senders: Sequence[_Sender]) -> str:
    return ", ".join(f"{sender.committed:,}" for sender in senders)


class _Sender:
    """Sends one hit on each page to one datacenter, in a thread, with a bound on what isn't committed yet."""

    def __init__(self, datacenter: Datacenter, count: int) -> None:
        self._datacenter, self._count = datacenter, count
        self._start = datacenter.progress()
        self.committed = 0
        self.moved_s = time.monotonic()  # when that last rose
        self._moments = [(self.moved_s, self._start)]
        self._failure: Exception | None = None
        threading.Thread(target=self._send, daemon=True).start()

    def _send(self) -> None:
        try:
            for start in range(0, self._count, BATCH):
                while start + BATCH - self.committed > WINDOW:
                    time.sleep(LOOK_S / 10)
                self._datacenter.send(map(_page, range(start, min(start + BATCH, self._count))))
        except Exception as error:  # noqa: BLE001 - told by `look`
            self._failure = error

    def look(self, now_s: float) -> None:
        """See how far the datacenter is."""
        if self._failure is not None:
            raise SystemExit(f"{self._datacenter.name} didn't take a batch of hits: {self._failure}")
        progress = self._datacenter.progress()
        hits = progress.hits - self._start.hits
        if hits > self.committed:
            self.committed, self.moved_s = hits, now_s
        self._moments.append((now_s, progress))

    def rates(self) -> tuple[float, float]:
        """Commits and rows a second, while there was more to commit than a commit takes."""
        least, most = self._start.hits + 0.1 * self._count, self._start.hits + 0.9 * self._count
        middle = [each for each in self._moments if least <= each[1].hits <= most]
        if len(middle) < MOMENTS:
            middle = self._moments  # over in a few heartbeats
        (first_s, first), (last_s, last) = middle[0], middle[-1]
        seconds = max(last_s - first_s, LOOK_S)
        return (last.commits - first.commits) / seconds, (last.hits - first.hits) / seconds


def _agree(datacenters: Sequence[Datacenter], count: int) -> float | None:
    """How long until each has committed `count` rows of the other; None when it gets no further."""
    begun = moved_s = told_s = time.monotonic()
    before = [-1 for _ in datacenters]
    while True:
        now_s = time.monotonic()
        received = [each.progress().received for each in datacenters]
        if min(received) >= count:
            return now_s - begun
        if received != before:
            before, moved_s = received, now_s
        if now_s - moved_s > STALL_S / 2:
            _tell("the other datacenter's rows don't come: " + ", ".join(f"{rows:,}" for rows in received))
            return None
        if now_s - told_s > TELL_S:
            told_s = now_s
            _tell("the other's rows: " + ", ".join(f"{rows:,}" for rows in received) + f" of {count:,} committed")
        time.sleep(LOOK_S / 5)


def _are_same(datacenters: Sequence[Datacenter], hits: int) -> bool:
    """Whether the stores hold the same counts, and no hit too many or too few."""
    sums = dict.fromkeys((each.name for each in datacenters), 0)
    for partitions in zip(*(each.counts() for each in datacenters), strict=True):
        if any(other != partitions[0] for other in partitions[1:]):
            _tell(f"partition {partitions[0][0]} isn't the same everywhere")
            return False
        for (_, dc), value in partitions[0][1].items():
            sums[dc] += value
    if any(found != hits for found in sums.values()):
        _tell(f"{hits:,} hits were sent to each, and the stores hold {sums}")
        return False
    return True


# --- the largest totals, a take-over --------------------------------------------------------


def _list(datacenter: Datacenter) -> tuple[float, float, float]:
    """How long the list took, by how much the collector grew, and the slowest hit meanwhile."""
    before = datacenter.collector_peak_bytes()
    done = threading.Event()
    times_s: list[float] = []
    with ThreadPoolExecutor(1) as pool:
        hits = pool.submit(_hit_until, datacenter, done)
        try:
            for _ in range(LISTS):
                connection = datacenter.connect()
                begun = time.monotonic()
                connection.request("GET", "/totals?sort=top&limit=10")
                answer = connection.getresponse()
                body = answer.read()
                times_s.append(time.monotonic() - begun)
                connection.close()
                if answer.status != 200:
                    raise SystemExit(f"/totals: {answer.status} {body[:200]!r}")
                time.sleep(LIST_PAUSE_S)
        finally:
            done.set()
        return statistics.median(times_s), datacenter.collector_peak_bytes() - before, hits.result()


def _hit_until(datacenter: Datacenter, done: threading.Event) -> float:
    """Read one total again and again; how long the slowest took."""
    connection = datacenter.connect()
    slowest_s = 0.0
    while not done.wait(HIT_PAUSE_S):
        begun = time.monotonic()
        connection.request("GET", "/total/" + _page(0))
        connection.getresponse().read()
        slowest_s = max(slowest_s, time.monotonic() - begun)
    connection.close()
    return slowest_s


def _take_over(datacenter: Datacenter, column: Column) -> None:
    """Kill a processor, and wait until others own its partitions."""
    victim = max(
        (seen for seen in datacenter.seen("processor") if seen.alive), key=lambda seen: len(seen.instance.owns)
    )
    left = set(victim.instance.owns)
    column.partitions = len(left)
    _tell(f"killing {victim.instance.name}, which owns {len(left)} partitions")
    begun = time.monotonic()
    kill(victim)
    dead_s: float | None = None
    while left:
        time.sleep(TAKE_OVER_LOOK_S)
        now_s = time.monotonic()
        if now_s - begun > TAKE_OVER_S:
            raise SystemExit(f"partitions {sorted(left)} have no owner {TAKE_OVER_S:.0f} s after the kill")
        alive = [seen.instance for seen in datacenter.seen("processor") if seen.alive]
        if any(each.id == victim.instance.id for each in alive):
            continue
        if dead_s is None:
            dead_s = now_s
            column.silence_s = dead_s - begun
        owned = left & {partition for each in alive for partition in each.owns}
        if owned and len(left) == column.partitions:
            column.first_s = now_s - dead_s
        left -= owned
        column.last_s = now_s - dead_s


def _tell(text: str) -> None:
    print(f"  {time.strftime('%H:%M:%S')}  {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())

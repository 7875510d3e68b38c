"""How long a partition's hits wait when its owner changes, while processors come and go.

A datacenter with two collectors and two processors takes hits on pages of every partition all the
time, in batches. Then it gets a third processor and loses it again, several times, by `hitmesh
scale`. From outside every partition's head in the totals store is watched, and what the Nexuses say of
who owns it. A partition's pause is the time from the old owner's last commit to the new owner's first:
the usual wait between two commits is in it. At the end every accepted hit must be counted once.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import http.client
import json
import shutil
import signal
import sqlite3
import statistics
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import zmq

from bench import seats
from bench.figures import milliseconds, percentile
from bench.moves import Glimpse, gaps, moves, unowned
from bench.reload import DC, Mesh
from hitmesh.config import Config, load, nexus_endpoints
from hitmesh.errors import DecodeError, MeshError
from hitmesh.mesh.connecting import connect
from hitmesh.mesh.lookup import Lookups
from hitmesh.mesh.network import Network, nexus_keys, operator_keyring
from hitmesh.protocol.messages import Change, decode
from hitmesh.state.view import MeshView
from hitmesh.store import StoredHead
from hitmesh.store.totals import decode_head

PAGES_A_PARTITION = 8
BATCH_S = 0.02  # between two batches with a hit on every page: far more often than commits
LOOK_S = 0.005  # between two looks at the heads
TARGET_S = 0.3
REST_S = 2.0  # of load before the first move, and after the last
TEMPLATE = Path(__file__).parents[1] / "config" / "dev.toml"
AUDIT_S = 30.0  # for what is spooled or under way to be committed


def main() -> int:
    """Run the bench; 1 when something it needs is missing, or a hit was lost or doubled."""
    parser = argparse.ArgumentParser(prog="bench/run handover", description=__doc__)
    parser.add_argument("--rounds", type=int, default=4, help="of a third processor that comes and goes")
    parser.add_argument(
        "--pages", type=int, default=0, metavar="N", help="further pages, hit once at first: rows to load"
    )
    parser.add_argument("--embedded", action="store_true", help="SQLite instead of beanstalkd and Consul")
    parser.add_argument("--insecure", action="store_true", help="without keys, to see what they cost")
    parser.add_argument("--keep", action="store_true", help="leave the state folder, with its logs, for reading")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that what was started is stopped
    missing = [] if options.embedded else [each for each in ("beanstalkd", "consul") if seats.find(each) is None]
    if missing:
        print(f"not installed: {', '.join(missing)}; scripts/install-services does it", file=sys.stderr)
        return 1
    folder = Path(tempfile.mkdtemp(prefix="hitmesh-handover-"))
    try:
        words = [] if options.embedded else ["--consul", "--beanstalkd"]
        if options.insecure:
            template = folder / "insecure.toml"
            template.write_text(TEMPLATE.read_text().replace("insecure = false", "insecure = true", 1))
            words += ["--config", str(template)]
        mesh = Mesh(folder / "var", words)
        try:
            is_good = _bench(mesh, load(folder / "var" / DC / "hitmesh.toml"), options.rounds, options.pages)
        finally:
            mesh.down()
    finally:
        if options.keep:
            print(f"  logs: {folder / 'var' / 'log'}")
        else:
            shutil.rmtree(folder, ignore_errors=True)
    return 0 if is_good else 1


def _bench(mesh: Mesh, config: Config, rounds: int, further: int) -> bool:
    pages = [f"example.com/{number}" for number in range(PAGES_A_PARTITION * config.partitions)]
    stores = (
        f"totals in {config.stores.totals.partition('://')[0]}, spools in {config.stores.spools[0].partition('://')[0]}"
    )
    print(
        f"{config.partitions} partitions, {stores}; a hit on each of {len(pages)} pages every {BATCH_S * 1e3:.0f} ms to "
        f"each of {len(mesh.collectors)} collectors; {rounds} times a third processor comes and goes",
        flush=True,
    )
    _prepare(mesh.collectors[0], further)
    _wait_for_rest(mesh)
    hitters = [_Hitter(url, pages) for url in mesh.collectors]
    heads, claims = _Heads(mesh.state_dir / config.name, config), _Claims(config)
    ways: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for thread in (*hitters, heads, claims):
        thread.start()
    try:
        time.sleep(REST_S)
        for _ in range(rounds):
            for way, count in (("a processor comes", 3), ("a processor goes", 2)):
                began = time.monotonic()
                mesh.ask("scale", f"processor={count}")
                time.sleep(REST_S)
                ways[way].append((began, time.monotonic()))
    finally:
        for thread in (*hitters, heads, claims):
            thread.stop()
    _report(heads.seen, claims.seen, ways)
    refused = sum(hitter.refused for hitter in hitters)
    if refused:
        print(f"  {refused:,} batches were NOT ACCEPTED")
    return _books(mesh, sum(hitter.accepted for hitter in hitters) + further) and not refused


def _report(
    heads: dict[int, list[Glimpse]],
    claims: dict[int, list[tuple[float, bool]]],
    ways: dict[str, list[tuple[float, float]]],
) -> None:
    _row("without a move: from one commit to the next", [gap for seen in heads.values() for gap in gaps(seen)])
    every = [move for partition, seen in heads.items() for move in moves(partition, seen)]
    for way, spans in ways.items():
        found = [move for move in every if any(began <= move.last_s < ended for began, ended in spans)]
        print(f"  {way}: {len(found)} partitions moved")
        _row("pause: from the last commit to the next", [move.pause_s for move in found], target_s=TARGET_S)
        _row("  of it: until the new owner's claim", [move.claimed_s for move in found])
        _row("  of it: from the claim to its commit", [move.first_commit_s for move in found])
        spells = [
            length
            for seen in claims.values()
            for length in unowned((at, owned) for at, owned in seen if any(b <= at < e for b, e in spans))
        ]
        _row("  nobody claims it, by the Nexuses", spells)


def _row(title: str, values: Sequence[float], *, target_s: float = 0.0) -> None:
    ordered = sorted(values)
    if not ordered:
        print(f"  {title:<46} none")
        return
    line = f"  {title:<46} median {milliseconds(statistics.median(ordered)):>10}   p99 "
    line += f"{milliseconds(percentile(ordered, 0.99)):>10}   most {milliseconds(ordered[-1]):>10}"
    if target_s:
        within = sum(value < target_s for value in ordered)
        line += f"   target {target_s * 1e3:.0f} ms: {within} of {len(ordered)} within"
    print(line, flush=True)


def _prepare(collector: str, further: int) -> None:
    """Pages that are there and not hit again, in batches of 10,000."""
    connection = http.client.HTTPConnection(collector.removeprefix("http://"), timeout=AUDIT_S)
    with contextlib.closing(connection):
        for first in range(0, further, 10_000):
            pages = [f"further.example/{number}" for number in range(first, min(first + 10_000, further))]
            assert _post(connection, pages) == http.client.OK, "the further pages weren't accepted"


def _post(connection: http.client.HTTPConnection, pages: Sequence[str]) -> int:
    body = "".join(f'{{"page": "{page}"}}\n' for page in pages)
    connection.request("POST", "/hits", body, {"Content-Type": "application/x-ndjson"})
    answer = connection.getresponse()
    answer.read()
    return answer.status


def _books(mesh: Mesh, accepted: int) -> bool:
    """Whether nothing was lost and nothing counted twice."""
    audit = _wait_for_rest(mesh)
    fits: bool = audit["committed"] == accepted
    print(
        f"  audit: balanced {audit['balanced']}, accepted {accepted:,}, committed {audit['committed']:,}"
        f"{'' if fits else ': NOT THE SAME'}"
    )
    return fits and audit["balanced"]


def _wait_for_rest(mesh: Mesh) -> dict[str, Any]:
    """The audit once nothing is spooled or on the way any more, or after AUDIT_S."""
    deadline = time.monotonic() + AUDIT_S
    while True:
        audit: dict[str, Any] = mesh.ask("audit")
        at_rest = audit["balanced"] and not audit["spooled"] and not audit["in_flight"]
        if at_rest or time.monotonic() > deadline:
            return audit


class _Watch(threading.Thread):
    """A thread that does one thing again and again until `stop`."""

    def __init__(self, pause_s: float) -> None:
        super().__init__(daemon=True)
        self._pause_s = pause_s
        self._ending = threading.Event()

    def run(self) -> None:
        while not self._ending.wait(self._pause_s):
            self.once()

    def once(self) -> None:
        raise NotImplementedError

    def stop(self) -> None:
        self._ending.set()
        self.join()


class _Hitter(_Watch):
    """Hits every page once in a batch, at one collector."""

    def __init__(self, collector: str, pages: Sequence[str]) -> None:
        super().__init__(BATCH_S)
        self._connection = http.client.HTTPConnection(collector.removeprefix("http://"), timeout=AUDIT_S)
        self._pages = pages
        self.accepted = self.refused = 0

    def once(self) -> None:
        if _post(self._connection, self._pages) == http.client.OK:
            self.accepted += len(self._pages)
        else:
            self.refused += 1


class _Heads(_Watch):
    """Looks at every partition's head in the totals store; remembers each that is new."""

    def __init__(self, folder: Path, config: Config) -> None:
        super().__init__(LOOK_S)
        self.seen: dict[int, list[Glimpse]] = defaultdict(list)
        self._indices: dict[int, int] = {}
        url = urlsplit(config.stores.totals)
        self._file = folder / url.path.lstrip("/") if url.scheme == "sqlite" else None
        self._prefix = url.path.strip("/")
        self._consul = http.client.HTTPConnection(url.netloc, timeout=AUDIT_S)

    def once(self) -> None:
        heads = list(self._in_consul() if self._file is None else self._in_sqlite(self._file))
        at_s = time.monotonic()
        for partition, stored in heads:
            if self._indices.get(partition) != stored.index:
                self._indices[partition] = stored.index
                head = decode_head(partition, stored)
                self.seen[partition].append(Glimpse(at_s, head.epoch, head.hits))

    def _in_consul(self) -> Iterator[tuple[int, StoredHead]]:
        self._consul.request("GET", f"/v1/kv/{self._prefix}/heads/?recurse&consistent")
        for entry in json.loads(self._consul.getresponse().read()):
            body = base64.b64decode(entry["Value"])
            yield int(entry["Key"].rpartition("/")[2]), StoredHead(body, entry["ModifyIndex"])

    def _in_sqlite(self, file: Path) -> Iterator[tuple[int, StoredHead]]:
        with contextlib.closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as database:
            for partition, index, body in database.execute("SELECT partition, head_index, body FROM heads"):
                yield partition, StoredHead(body, index)


class _Claims(_Watch):
    """Follows a Nexus as a role does; remembers when a partition's owner came and went."""

    def __init__(self, config: Config) -> None:
        super().__init__(0.0)
        self.seen: dict[int, list[tuple[float, bool]]] = defaultdict(list)
        self._partitions = range(config.partitions)
        self._nexus = nexus_endpoints(config.instances("nexus")[0])
        self._keyring = operator_keyring(config)
        self._keys = nexus_keys(self._keyring, config)
        timeout_s = config.timing.heartbeat_s * config.timing.missed_heartbeats
        self._view = MeshView([self._nexus.changes], dc=config.name, timeout_s=timeout_s)
        self._owned: frozenset[int] = frozenset()

    def run(self) -> None:
        with zmq.Context() as context, context.socket(zmq.SUB) as self._socket:
            self._socket.setsockopt(zmq.LINGER, 0)
            self._socket.setsockopt(zmq.SUBSCRIBE, b"")
            where = self._nexus.changes
            connect(Network(context, self._keyring), self._socket, where, self._keys(where))
            super().run()

    def once(self) -> None:
        if not self._socket.poll(50):
            return
        at_s = time.monotonic()
        with contextlib.suppress(DecodeError):
            change = decode(self._socket.recv(), Change)
            if self._view.change(self._nexus.changes, change, at_s):
                with contextlib.suppress(MeshError), self._lookups() as lookups:
                    self._view.answer(self._nexus.changes, lookups.snapshot(), time.monotonic())
        owned = frozenset(self._view.owners())
        for partition in owned ^ self._owned:
            self.seen[partition].append((at_s, partition in owned))
        self._owned = owned

    def _lookups(self) -> Lookups:
        return Lookups([self._nexus.lookups], keyring=self._keyring, keys=self._keys)


if __name__ == "__main__":
    sys.exit(main())

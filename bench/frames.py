"""Well-formed messages with numbers that nobody means, to every socket of a mesh of real processes.

    .venv/bin/python -m bench.frames                     # 100,000 frames; some minutes
    .venv/bin/python -m bench.frames --count 5000 --seed 7 --roles processor,collector

On the bare wire, where everybody is heard, two datacenters count hits, each answered one remembered, while every role gets frames that decode: in the
names of living workers, processors and datacenters, with the right epochs, and with the greatest numbers
that there are. Afterwards every process must be the one that it was, no stored count may ever have fallen,
every hit that was answered must be in the totals, and the audit must say who refused how much. Status 1 if
not.

A lane's very next number isn't guessed: only keys can tell such a part from its worker's.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any, Final

import msgspec.inspect as declared
import zmq

from hitmesh.cli import folder, picture
from hitmesh.config import Config
from hitmesh.errors import DecodeError, StoreUnknown
from hitmesh.protocol.messages import (
    MESSAGES,
    VERSION,
    Ack,
    Applied,
    Batch,
    Close,
    Control,
    Have,
    Heartbeat,
    LaneState,
    Leave,
    Lookup,
    Message,
    Neighbours,
    Part,
    Redirect,
    Rows,
    Seen,
    decode,
    encode,
)
from hitmesh.store.open import open_store
from hitmesh.store.totals import read_listing
from tests.hitmesh.cli.meshes import Mesh, hit, meshes
from tests.services import wait_for

FEW: Final = 3  # entries of a collection
NUMBERS: Final = (
    0, 1, 2, 3, 2**16, 2**31, 2**32, 2**33 - 7, 2**48, 2**48 + 9, 2**53 - 1, 2**53, 2**57 - 1, 2**57, 2**62,
    2**63 - 2, 2**63 - 1,
)  # fmt: skip
NOBODY: Final = "tcp://127.0.0.1:9"
PAGES: Final = (
    *(f"forged/{number}" for number in range(200)),
    "/", "a\nb", "\x1b[31m", "s/../t", "/s", "é" * 1000, "x" * 1024, "s/\u202e", "t/site",
)  # fmt: skip
SOCKETS: Final[Mapping[str, tuple[int, tuple[type[Message], ...]]]] = {
    "acks": (zmq.PUSH, (Ack, Redirect)),
    "batches": (zmq.PUSH, (Batch, Close)),
    "rows": (zmq.PUSH, (Have, Rows)),
    "heartbeats": (zmq.PUB, (Heartbeat, Leave, Neighbours)),
    "lookups": (zmq.DEALER, (Lookup, Control)),
}
DECLARED: Final = {kind: declared.type_info(kind) for kind in MESSAGES}  # once: it takes longer than a message
WRONG_KIND: Final = 0.1  # of the frames
HONEST: Final = tuple(f"honest/{number}" for number in range(64))
SETTLED_S: Final = 180.0


@dataclass
class Living:
    """Names and numbers of a mesh that somebody who listens would know."""

    workers: Sequence[str] = ("w",)
    instances: Sequence[str] = ("p",)
    dcs: Sequence[str] = ("x",)
    ledgers: Sequence[str] = ("l",)
    endpoints: Sequence[str] = (NOBODY,)
    epochs: Sequence[int] = (1,)
    partitions: int = 1


class Forger:
    """Makes messages, the same ones for the same random numbers."""

    def __init__(self, random: Random, living: Living) -> None:
        self._random = random
        self._living = living

    def frame(self, kinds: Sequence[type[Message]]) -> bytes:
        """A message of one of these kinds that decodes."""
        while True:
            kind = self._random.choice(kinds)
            try:
                data = encode(self._make(DECLARED[kind]))
                decode(data, kind)
            except (DecodeError, ValueError):
                continue  # a rule between fields is broken
            return data

    def _make(self, info: declared.Type, name: str = "") -> Any:
        random = self._random
        if isinstance(info, declared.StructType):
            return self._struct(info)
        if isinstance(info, declared.UnionType):
            return self._make(random.choice(info.types), name)
        if isinstance(info, declared.NoneType):
            return None
        if isinstance(info, declared.BoolType):
            return random.random() < 0.5
        if isinstance(info, declared.FloatType):
            return random.choice((0.0, 1.0, -1e15, 1e15, 0.7))
        if isinstance(info, declared.IntType):
            return self._number(info, name)
        if isinstance(info, declared.StrType):
            return self._text(info, name)
        if isinstance(info, declared.BytesType):
            return random.randbytes(random.choice((0, 1, 1000)))
        if isinstance(info, declared.DictType):
            count = random.randint(0, FEW)
            return {self._make(info.key_type, "key"): self._make(info.value_type, name) for _ in range(count)}
        if isinstance(info, declared.VarTupleType):
            if name == "above":
                return self._ranges()
            return tuple(self._make(info.item_type, name) for _ in range(random.randint(0, FEW)))
        assert isinstance(info, declared.TupleType), info
        return tuple(self._make(each, name) for each in info.item_types)

    def _struct(self, info: declared.StructType) -> Any:
        kind = info.cls
        values = {each.name: self._make(each.type, each.name) for each in info.fields}
        if issubclass(kind, Message):
            values |= {"version": VERSION, "kind": kind.KIND}
        if kind is Part:
            values["low"], values["seq"] = sorted((values["low"], values["seq"]))
        if kind in (Applied, LaneState) and values["above"]:
            values["mark"] = min(values["mark"], 3)
        return kind(**values)

    def _number(self, info: declared.IntType, name: str) -> int:
        random, living = self._random, self._living
        least, most = info.ge or 0, info.le if info.le is not None else (info.lt or 1) - 1
        if name in ("partition", "key") and random.random() < 0.9:
            return random.randrange(living.partitions)
        if name in ("epoch", "epochs", "owns") and random.random() < 0.7:
            return random.choice(living.epochs)
        if name == "number" and random.random() < 0.5:
            return random.randrange(100)
        return min(most, max(least, random.choice(NUMBERS)))

    def _text(self, info: declared.StrType, name: str) -> str:
        random, living = self._random, self._living
        most = info.max_length or 1024
        if most == 1024 and info.min_length:
            return random.choice(PAGES)
        known = {
            "worker": living.workers, "owner": living.instances, "id": living.workers, "dc": living.dcs,
            "origin": living.dcs, "ledger": living.ledgers, "reply_to": living.endpoints,
        }.get(name, (*living.workers, *living.instances, *living.dcs))  # fmt: skip
        if most == 256:
            known = living.endpoints
        if random.random() < 0.8:
            return random.choice(known)[:most]
        return random.choice((f"ghost-{random.randrange(2000)}", "x" * most, "\x1b[31m\n", "é", "127.0.0.1"))[:most]

    def _ranges(self) -> tuple[tuple[int, int], ...]:
        first = self._random.choice((2**20, 2**32, 2**53, 2**62)) + 1000
        return tuple((first + 4 * at, first + 4 * at + 1) for at in range(self._random.randint(0, FEW)))


# --- a mesh ---------------------------------------------------------------------------------------


def living_of(seen: Sequence[Seen], config: Config) -> Living:
    """What a datacenter's picture gives away."""
    instances = [each.instance for each in seen if each.alive]
    return Living(
        workers=[one.id for one in instances if one.role == "collector"],
        instances=[one.id for one in instances if one.role == "processor"],
        dcs=("eu-west", "us-west", "nowhere"),
        ledgers=_ledgers(config),
        endpoints=[one.endpoints["acks"] for one in instances if "acks" in one.endpoints] + [NOBODY],
        epochs=sorted({epoch for one in instances for epoch in one.owns.values()}) or [1],
        partitions=config.partitions,
    )


def _ledgers(config: Config) -> Sequence[str]:
    return ("ledger", config.name)


def targets(seen: Sequence[Seen], roles: Sequence[str]) -> list[tuple[str, str]]:
    """The sockets of these roles: what is bound there, and where."""
    return [
        (name, endpoint)
        for each in seen
        if each.alive and each.instance.role in roles
        for name, endpoint in sorted(each.instance.endpoints.items())
        if name in SOCKETS
    ]


def send(sockets: Sequence[tuple[str, str]], forger: Forger, random: Random, count: int) -> Counter[str]:
    """Send so many frames, each to one of these; how many went where."""
    sent: Counter[str] = Counter()
    with contextlib.ExitStack() as stack:
        context = stack.enter_context(zmq.Context())
        opened = []
        for name, endpoint in sockets:
            socket = stack.enter_context(context.socket(SOCKETS[name][0]))
            socket.setsockopt(zmq.LINGER, 5000)
            socket.setsockopt(zmq.SNDTIMEO, 30_000)
            socket.connect(endpoint)
            opened.append((name, socket))
        time.sleep(0.5)  # a PUB's first frames get lost
        for number in range(count):
            name, socket = random.choice(opened)
            kinds = MESSAGES if random.random() < WRONG_KIND else SOCKETS[name][1]
            try:
                socket.send(forger.frame(kinds))
            except zmq.Again:
                ended = (
                    f"{socket.get_string(zmq.LAST_ENDPOINT)} ({name}) takes nothing any more, after {number:,} frames"
                )
                raise SystemExit(ended) from None
            sent[name] += 1
            while name == "lookups" and socket.poll(0):
                socket.recv_multipart()  # who never takes an answer is disconnected, and sends nothing more
            if name in ("heartbeats", "lookups") and number % 50 == 0:
                time.sleep(0.01)  # a PUB drops what its peer is too slow for
    return sent


@dataclass
class Honest:
    """Hits by somebody who means it, and what was answered."""

    urls: Sequence[str]
    answered: Counter[str] = field(default_factory=Counter)
    failed: int = 0
    _stopped: threading.Event = field(default_factory=threading.Event)

    def warm_up(self) -> None:
        """Some hits of every page, one after the other: so that each lane is past its first few numbers."""
        for _ in range(6):
            for url in self.urls:
                for page in HONEST:
                    self._hit(url, page)

    def run(self) -> None:
        """Until stopped."""
        random = Random(1)
        while not self._stopped.wait(0.005):
            self._hit(random.choice(self.urls), random.choice(HONEST))

    def stop(self) -> None:
        self._stopped.set()

    def _hit(self, url: str, page: str) -> None:
        try:
            hit(url, page)
        except (AssertionError, OSError):
            self.failed += 1
        else:
            self.answered[page] += 1


@dataclass
class Stored:
    """Own counts in the stores, looked at again and again: none may fall."""

    configs: Sequence[tuple[Config, Path]]
    highest: dict[tuple[str, str], int] = field(default_factory=dict)
    fallen: list[str] = field(default_factory=list)
    looks: int = 0

    def look(self) -> None:
        """Once."""
        for config, base in self.configs:
            with contextlib.closing(open_store(config, base)) as store, contextlib.suppress(StoreUnknown):
                listing = read_listing(store, partitions=config.partitions, has_peers=False)
                for bad in listing.unreadable.values():
                    self.fallen.append(bad)
                for page, counts in listing.totals.items():
                    key, count = (config.name, page), counts.get(config.name, 0)
                    if count < self.highest.get(key, 0):
                        self.fallen.append(f"{page} in {config.name}: {count} after {self.highest[key]}")
                    self.highest[key] = count
                self.looks += 1

    def total(self, page: str) -> int:
        """Over all datacenters."""
        return sum(count for (_, name), count in self.highest.items() if name == page)


@contextlib.contextmanager
def working(honest: Honest, stored: Stored) -> Iterator[None]:
    """Hits go on, and the stores are looked at."""
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(1.0):
            stored.look()

    threads = [threading.Thread(target=honest.run), threading.Thread(target=watch)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        honest.stop()
        ended.set()
        for thread in threads:
            thread.join()


def attack(mesh: Mesh, *, count: int, seed: int, roles: Sequence[str]) -> list[str]:
    """Attack a mesh that is up; what is wrong afterwards."""
    configs = folder.datacenters(mesh.state_dir)
    seen = {config.name: picture.ask(config) for config in configs}
    before = {name: one["pid"] for name, one in mesh.status().items()}
    honest = Honest([url for config in configs for url in mesh.urls(config.name, "collector")])
    stored = Stored([(config, mesh.state_dir / config.name) for config in configs])
    honest.warm_up()
    began_s = time.monotonic()
    sent: Counter[str] = Counter()
    with working(honest, stored):
        for config in configs:
            answer = seen[config.name]
            assert answer is not None, "no Nexus answers"
            random = Random(f"{seed} {config.name}")
            forger = Forger(random, living_of(answer.seen, config))
            sent += send(targets(answer.seen, roles), forger, random, count // len(configs))
        took_s = time.monotonic() - began_s
        time.sleep(5)  # hits go on for a while after it
    print(f"{sum(sent.values()):,} frames in {took_s:.0f} s: {', '.join(f'{n:,} {name}' for name, n in sent.items())}")
    answered = sum(honest.answered.values())
    print(f"{answered:,} honest hits were answered with 200, {honest.failed} with an error")

    def is_counted() -> bool:
        stored.look()
        return all(stored.total(page) >= hits for page, hits in honest.answered.items())

    wrong = []
    with contextlib.suppress(AssertionError):
        wait_for(is_counted, within_s=SETTLED_S, what="every honest hit in the totals")
    for page, hits in honest.answered.items():
        if not hits <= stored.total(page) <= hits + honest.failed:
            wrong.append(f"{page} has {stored.total(page)} hits, and {hits} were answered")
    wrong += sorted(set(stored.fallen))[:10]
    after = {name: one["pid"] for name, one in mesh.status().items()}
    wrong += [f"{name} is another process" for name, pid in before.items() if after.get(name) != pid]
    report = mesh.json("audit")
    for dc, found in report["dcs"].items():
        named = ", ".join(f"{name} {refused:,}" for name, refused in found["refused"].items())
        print(f"audit, {dc}: refused {named or 'nothing'}; problems: {len(found['problems'])}")
        for problem in found["problems"][:10]:
            print(f"  {problem}")
        silent = [
            one for one in before
            if one.startswith(dc) and any(role in one for role in roles)
            and not found["refused"].get(one.removeprefix(f"{dc}-"))
        ]  # fmt: skip
        wrong += [f"the audit doesn't name what {name} refused" for name in silent]
    print(f"the stores were looked at {stored.looks} times; no count fell" if not stored.fallen else "counts fell")
    return wrong


def main() -> int:
    """Run it; 1 when anything was wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=100_000, help="frames")
    parser.add_argument("--seed", type=int, default=0, help="of their contents")
    parser.add_argument("--roles", default="collector,processor,nexus", help="whose sockets they go to")
    options = parser.parse_args()
    with (
        tempfile.TemporaryDirectory(prefix="hitmesh-frames-") as path,
        meshes(Path(path) / "var", insecure=True, nexus=1, collector=1, processor=2, balancer=0) as mesh,
    ):
        mesh.up("eu-west,us-west")
        wrong = attack(mesh, count=options.count, seed=options.seed, roles=options.roles.split(","))
    for each in wrong:
        print(f"WRONG: {each}", file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())

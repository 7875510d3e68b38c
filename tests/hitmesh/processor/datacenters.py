"""Datacenters of one partition each, in memory: real state machines, real bytes, a network and a clock of the test's."""

from __future__ import annotations

from hitmesh.processor.feed import Held
from hitmesh.processor.following import Following
from hitmesh.processor.partition import Partition
from hitmesh.processor.steps import Counters, LoadRows, Phase, ReadHead
from hitmesh.processor.telling import Telling
from hitmesh.protocol.messages import Have, Head, Part, Rows, Wanted, decode, encode, make
from hitmesh.store import Unknown, Write
from tests.hitmesh.processor.memory_store import MemoryStore

HELD_S = 0.5
TICK_S = 0.25
WALL_S = 1_800_000_000

QUESTIONS = 1_000_000  # more than one process asks
HERE = "tcp://192.0.2.1:1"  # where answers go: the world delivers them by name


class Datacenter:
    """One partition's owner in one datacenter, its store, and one collector that remembers every part."""

    def __init__(self, name: str, world: World) -> None:
        self.name = name
        self.world = world
        self.store = MemoryStore()
        self.counters = Counters()
        self.lives = 0
        self.parts: list[Part] = []
        self.start()

    def start(self) -> None:
        """A new owner process, which takes the partition over."""
        self.lives += 1
        self.id = f"{self.name}-{self.lives}"
        self.store.max_rows = 2
        self.partition = Partition(
            0, dc=self.name, me=self.id, ledger=f"ledger.{self.id}", max_rows=2, max_write_bytes=4096,
            counters=self.counters,
        )  # fmt: skip
        self.following = Following(dc=self.name, held_s=HELD_S, first=self.lives * QUESTIONS)
        self.telling = Telling(dc=self.name, held_s=HELD_S, age_s=self.following.age_s)
        self.partition.take(alone=not self.peers)
        self.steps()

    @property
    def peers(self) -> frozenset[str]:
        return frozenset(self.world.names) - {self.name} - self.world.retired

    @property
    def head(self) -> Head:
        assert self.store.head is not None
        return decode(self.store.head, Head)

    def hit(self, page: str, count: int = 1) -> bool:
        """A part of one collector; whether the partition took it."""
        part = Part(0, len(self.parts) + 1, 1, {page: count})
        self.parts.append(part)
        return self.offer(part)

    def offer(self, part: Part) -> bool:
        epoch = self.partition.epoch
        return epoch > 0 and self.partition.offer(f"collector.{self.name}", "", epoch, part)[0].value != "dropped"

    def offer_all(self) -> None:
        """Every part again, as a spool that wasn't wiped would."""
        for part in self.parts:
            self.offer(part)
        self.steps()

    def steps(self, *, unknown: bool = False) -> None:
        """Carry out whatever there is to do against the store; `unknown`: the first write gives no answer."""
        partition = self.partition
        while partition.phase is not Phase.AWAY and not partition.is_waiting:
            step = partition.step(WALL_S + self.world.now_s)
            if step is None:
                break
            if isinstance(step, ReadHead):
                partition.head_read(self.store.read_head())
            elif isinstance(step, LoadRows):
                partition.rows_loaded(list(self.store.rows.values()))
            else:
                assert isinstance(step, Write)
                outcome = self.store.write(step)
                partition.wrote(Unknown("lost") if unknown else outcome)
                unknown = False
        self.following.committed(partition)
        self.telling.committed(partition, self.world.now_s, WALL_S + self.world.now_s)
        self.send()

    def tick(self) -> None:
        """What the processor does a few times a second."""
        now_s = self.world.now_s
        self.telling.look(self.partition, now_s, WALL_S + now_s)
        reachable = self.peers & self.world.heard_by(self.name)
        self.partition.restore(self.peers, self.world.now_s)
        endpoints = {peer: peer for peer in reachable}
        if self.partition.epoch or self.partition.restoration:
            asked: dict[str, list[Wanted]] = {}
            for to, wanted in self.following.ask(self.partition, self.peers, endpoints, now_s):
                asked.setdefault(to, []).append(wanted)
            for to, some in asked.items():
                self.world.post(self.name, to, encode(make(Have, self.name, self.id, HERE, tuple(some))))
        self.steps()

    def receive(self, data: bytes) -> None:
        """A message of another datacenter."""
        message = decode(data, Have, Rows)
        now_s = self.world.now_s
        if isinstance(message, Have):
            for wanted in message.wanted:
                held = Held(message.dc, message.dc, wanted, now_s)
                if self.partition.epoch:
                    self.telling.asked(self.partition, held, message.owner, WALL_S + now_s)
                elif self.partition.restoration is not None:
                    self.telling.has_nothing(self.partition, held, WALL_S + now_s)
            self.send()
        else:
            for chunk in message.chunks:
                self.following.answered(self.partition, message.dc, chunk, now_s)
            self.partition.restore(self.peers, self.world.now_s)
            self.steps()

    def send(self) -> None:
        """Post what is to be told, reading what is missing for it."""
        while True:
            chunks, loads = self.telling.take()
            for to, some in chunks.items():
                self.world.post(self.name, to, encode(make(Rows, self.name, self.id, tuple(some))))
            if not loads:
                return
            for load in loads:
                rows = list(self.store.rows.values())
                self.telling.loaded(load, rows, self.world.now_s, WALL_S + self.world.now_s)

    @property
    def phase(self) -> Phase:
        return self.partition.phase

    def wipe(self) -> None:
        """The store is lost, and its owner's process with it."""
        self.store = MemoryStore()
        self.start()

    def rows(self, dc: str) -> dict[str, int]:
        """What is in the store of a datacenter's rows, the redo laid over them."""
        found = {row.page: row.count for (_, origin), row in self.store.rows.items() if origin == dc}
        if self.store.head is not None:
            found.update({row.page: row.count for row in self.head.redo if row.dc == dc})
        return found

    def age_s(self, dc: str) -> float:
        return self.following.age_s(self.partition, dc, self.world.now_s, WALL_S + self.world.now_s)


class World:
    """The datacenters and what is under way between them."""

    def __init__(self, *names: str) -> None:
        self.names = names
        self.now_s = 100.0
        self.retired: frozenset[str] = frozenset()
        self.down: set[str] = set()
        self.cut: set[frozenset[str]] = set()
        self.mail: list[tuple[str, str, bytes]] = []
        self.dcs: dict[str, Datacenter] = {}
        for name in names:
            self.dcs[name] = Datacenter(name, self)

    def __getitem__(self, name: str) -> Datacenter:
        return self.dcs[name]

    def heard_by(self, name: str) -> set[str]:
        return {
            one for one in self.names if one != name and one not in self.down and frozenset((one, name)) not in self.cut
        }

    def post(self, origin: str, to: str, data: bytes) -> None:
        self.mail.append((origin, to, data))

    def deliver(self, index: int = 0) -> None:
        origin, to, data = self.mail.pop(index)
        if frozenset((origin, to)) not in self.cut and to not in self.down:
            self.dcs[to].receive(data)

    def run(self, seconds: float) -> None:
        """Let time pass; everything is delivered."""
        until_s = self.now_s + seconds
        while self.now_s < until_s:
            for name in self.names:
                if name not in self.down:
                    self.dcs[name].tick()
            for _ in range(len(self.mail) * 3):
                if self.mail:
                    self.deliver()
            self.now_s += TICK_S

"""Rows between datacenters: the sockets, the clock and the store around `Following` and `Telling`.

Owns one PULL socket (questions and answers in) and the PUSH sockets to other datacenters' processors.
What is asked is `Following`'s, what is told `Telling`'s, what is written the processor's. A message that gets lost is asked for again; nothing here is the only copy of anything.
"""

from __future__ import annotations

import logging
import secrets
import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final

from gevent.event import Event
from gevent.lock import BoundedSemaphore
from msgspec.structs import replace

from hitmesh.errors import DecodeError, StoreUnknown
from hitmesh.hub.rest import rest
from hitmesh.mesh.duty import spawn
from hitmesh.mesh.network import Network
from hitmesh.mesh.outside import Outside, listen
from hitmesh.mesh.pipes import Pushes, bind_pull
from hitmesh.mesh.sockets import FrameReader
from hitmesh.processor.feed import Held
from hitmesh.processor.following import Following
from hitmesh.processor.partition import Partition
from hitmesh.processor.steps import Phase
from hitmesh.processor.telling import Load, Telling
from hitmesh.processor.trace import Trace
from hitmesh.protocol.messages import (
    MAX_DCS,
    Chunk,
    Have,
    Rows,
    Wanted,
    decode_head,
    encode,
    make,
)
from hitmesh.settings.live import Live
from hitmesh.state.ownership import rendezvous
from hitmesh.state.peers import Peers
from hitmesh.state.view import MeshView
from hitmesh.store import TotalsStore

log = logging.getLogger(__name__)

TICK_S: Final = 0.1  # how often held questions and unanswered ones are looked at
ROWS_BYTES: Final = 1024 * 1024  # of chunks in one frame, well below a frame's limit
QUESTIONS: Final = 1000  # in one message
EARLY: Final = 10_000  # questions about partitions that are just being taken over; a lost one is asked again
COMPLAINT_S: Final = 10.0  # between two lines in the log about who is waited for


class Replication:
    """One processor's part in it. `drive` carries out a partition's steps, `commit` writes all that is dirty."""

    def __init__(
        self,
        live: Live,
        *,
        name: str,
        id: str,
        partitions: Sequence[Partition],
        store: TotalsStore,
        network: Network,
        drive: Callable[[Partition], None],
        commit: Callable[[], None],
        trace: Trace | None = None,
    ) -> None:
        self._live = live
        config = self._config = live.config
        self._id = id
        self._partitions = partitions
        self._store = store
        self._drive, self._commit = drive, commit
        self._trace = trace or Trace()
        heartbeat_s = config.timing.heartbeat_s
        place = config.placement("processor", name)
        pull, self.endpoint = bind_pull(network, place.address, "rows", heartbeat_s=heartbeat_s, port=place.port)
        self._place, self._outside = place, Outside(config)
        listen(pull, place, self.endpoint)
        self._frames = FrameReader(network, pull, self.endpoint, link="rows", clock=time.monotonic, rest=rest)
        self._pushes = Pushes(network, heartbeat_s=heartbeat_s, queue_unconnected=False)
        self._following = Following(dc=config.name, held_s=config.timing.rows_s, first=secrets.randbits(48))
        self._telling = Telling(dc=config.name, held_s=config.timing.rows_s, age_s=self._following.age_s)
        self._one_load = BoundedSemaphore()
        self._early: deque[tuple[Held, str]] = deque(maxlen=EARLY)
        self._peers = Peers(config.name, config.peers)
        self._view: MeshView | None = None
        self._wake = Event()
        self._complained_s = 0.0
        self._looking: set[tuple[int, str]] = set()  # partitions whose head is being looked for, and who asked

    def start(self, view: MeshView) -> None:
        """Begin to ask and to answer."""
        self._view = view
        self._outside.start()
        spawn("receiver of rows", self._receive)
        spawn("replication", self._run)

    def stop(self) -> None:
        """Close the sending ends."""
        self._outside.stop()
        self._pushes.close()

    # --- what the processor tells and asks ---------------------------------------------------

    def wake(self) -> None:
        """The mesh has changed: others may be owners now."""
        self._wake.set()

    def is_alone(self) -> bool:
        """Whether no other datacenter can have anything of ours."""
        return self._known_peers() == frozenset()

    def committed(self, partitions: Iterable[Partition]) -> None:
        """These partitions have written: tell those who wait for it, and ask on."""
        now_s = time.monotonic()
        for one in partitions:
            self._following.committed(one)
            self._telling.committed(one, now_s, time.time())
        self._tell()
        self._ask(partitions, now_s)

    def load(self) -> dict[str, float]:
        """Figures for the heartbeat."""
        owned = [one for one in self._partitions if one.epoch]
        self._peers.saw(dc for one in owned for dc in one.origins)
        peers = self._peers.rooted(self._live.retired)  # whoever says of itself that it is one is in no answer
        ages = self._following.worst_ages(owned, peers, time.monotonic(), time.time()) if owned else {}
        return {
            "restoring": sum(one.phase is Phase.RESTORING for one in self._partitions),
            "bad_rows": self._frames.bad,
            **{f"age_s.{dc}": round(age_s, 2) for dc, age_s in list(ages.items())[:MAX_DCS]},
        }

    # --- greenlets ---------------------------------------------------------------------------

    def _run(self) -> None:
        while True:
            self._wake.wait(TICK_S)
            self._wake.clear()
            now_s = time.monotonic()
            self._following.held_s = self._telling.held_s = self._live.config.timing.rows_s
            self._ask_again()
            for one in self._partitions:
                if one.phase in (Phase.AWAY, Phase.READING):
                    self._following.forget(one.number)
                self._telling.look(one, now_s, time.time())
            self._tell()
            self._ask(self._partitions, now_s)
            self._restore(now_s)

    def _receive(self) -> None:
        while (message := self._frames.receive(Have, Rows)) is not None:
            if isinstance(message, Have):
                self._asked(message)
            else:
                self._told(message)

    # --- asking ------------------------------------------------------------------------------

    def _known_peers(self) -> frozenset[str] | None:
        """The datacenters that must be asked before anything is counted; None while that isn't known."""
        return self._peers.known(self._view, self._live.retired)

    def _ask(self, partitions: Iterable[Partition], now_s: float) -> None:
        assert self._view is not None
        reply_to = self._outside.endpoint(self._place, self.endpoint)
        if not reply_to:
            return  # nobody could answer yet
        peers = self._known_peers()
        questions: dict[str, list[Wanted]] = defaultdict(list)
        for one in partitions:
            if one.restoration is not None and peers is None:
                continue
            if one.epoch or one.restoration is not None:
                endpoints = self._endpoints(one)
                for endpoint, wanted in self._following.ask(one, peers or (), endpoints, now_s):
                    questions[endpoint].append(wanted)
        for endpoint, wanted_there in questions.items():
            for start in range(0, len(wanted_there), QUESTIONS):
                some = tuple(wanted_there[start : start + QUESTIONS])
                self._pushes.send(endpoint, encode(make(Have, self._config.name, self._id, reply_to, some)))

    def _endpoints(self, partition: Partition) -> Mapping[str, str]:
        """Where this partition's owner is, in each other datacenter; of one that is restored, whoever should be."""
        assert self._view is not None
        found = {}
        for dc in self._view.others:
            owner = self._view.owner(partition.number, dc)
            instance = owner.instance if owner else None
            if instance is None and partition.restoration is not None:
                living = {one.name: one for one in self._view.live("processor", dc)}
                instance = living[rendezvous(partition.number, living)] if living else None
            endpoint = instance.endpoints.get("rows", "") if instance else ""
            if endpoint and self._pushes.open(endpoint) is not None:
                found[dc] = endpoint
        return found

    def _told(self, message: Rows) -> None:
        if message.dc not in self._peer_names():
            self._refuse(message.dc, "rows of a datacenter that isn't a peer")
            return
        now_s = time.monotonic()
        to_commit = False
        asked_on = []
        for chunk in message.chunks:
            if chunk.partition >= len(self._partitions):
                self._refuse(message.dc, f"rows of partition {chunk.partition} of {len(self._partitions)}")
                continue
            one = self._partitions[chunk.partition]
            if self._following.answered(one, message.dc, _by_our_clock(chunk), now_s) and one.restoration is None:
                to_commit = True
            else:
                asked_on.append(one)
        if to_commit:
            self._commit()
        self._ask(asked_on, now_s)
        self._restore(now_s)

    def _restore(self, now_s: float) -> None:
        restoring = [one for one in self._partitions if one.restoration is not None]
        if not restoring:
            return
        peers = self._known_peers()
        if now_s - self._complained_s >= COMPLAINT_S:
            self._complained_s = now_s
            self._complain(restoring, now_s)
        for one in restoring:
            one.restore(peers, now_s)
            if not one.is_waiting:
                self._drive(one)

    def _complain(self, restoring: Sequence[Partition], now_s: float) -> None:
        assert self._view is not None
        peers = self._peers.so_far(self._live.retired)
        asked = {peer for one in restoring if one.restoration for peer in one.restoration.waits_for(peers, now_s)}
        away = asked - self._view.others
        log.warning(
            "%d partitions aren't in the store: asking other datacenters before counting%s%s",
            len(restoring),
            f"; waiting for {', '.join(sorted(asked))}" if asked else "",
            f" (not heard: {', '.join(sorted(away))}; retire one that is gone for good)" if away else "",
            extra={"fields": {"partitions": len(restoring)}},
        )

    # --- answering ---------------------------------------------------------------------------

    def _asked(self, have: Have) -> None:
        peers = self._peer_names()
        if have.dc not in peers:
            self._refuse(have.dc, "a question of a datacenter that isn't a peer")  # it asks again, when we know it
            return
        for wanted in have.wanted:
            if wanted.partition >= len(self._partitions):
                self._refuse(have.dc, f"a question about partition {wanted.partition} of {len(self._partitions)}")
            elif wanted.origin != self._config.name and wanted.origin not in peers:
                self._refuse(have.dc, f"a question about {wanted.origin!a:.140}, which isn't a peer")
            else:
                now_s = time.monotonic()
                if wanted.origin == self._config.name and wanted.have is not None:
                    self._trace.have(now_s, have.dc, have.owner, wanted.partition, wanted.have)
                self._ask_here(Held(have.dc, have.reply_to, wanted, now_s), have.owner)
        self._tell()

    def _peer_names(self) -> frozenset[str]:
        """The other datacenters that are configured, that the mesh shows or has shown, or of which there are rows."""
        assert self._view is not None
        self._peers.saw(self._view.others)
        return self._peers.so_far(()).union(*(one.origins for one in self._partitions))

    def _refuse(self, dc: str, reason: str) -> None:
        self._partitions[0].counters.refuse(dc, reason)

    def _ask_here(self, held: Held, owner: str) -> None:
        one = self._partitions[held.wanted.partition]
        if held.wanted.origin == held.dc and one.has_arrived(held.dc):
            self._early.append((held, owner))  # it is being restored: what is on its way into our store is its own
        elif one.epoch:
            self._telling.asked(one, held, owner, time.time())
        elif one.restoration is not None:
            self._telling.has_nothing(one, held, time.time())
        elif one.phase is Phase.AWAY:
            if (one.number, held.dc) not in self._looking:
                self._looking.add((one.number, held.dc))
                spawn("look for a head", self._look, held)
        else:
            self._early.append((held, owner))  # just being taken over

    def _ask_again(self) -> None:
        for _ in range(len(self._early)):
            self._ask_here(*self._early.popleft())

    def _look(self, held: Held) -> None:
        """A question about a partition that nobody here owns: where it has no past here, we say that we have nothing."""
        one = self._partitions[held.wanted.partition]
        try:
            stored = self._store.read_head(one.number)
            is_blank = stored is None or decode_head(stored.body).restoring
        except (StoreUnknown, DecodeError):
            return  # it will be asked again
        finally:
            self._looking.discard((one.number, held.dc))
        if is_blank and one.phase is Phase.AWAY:
            self._telling.has_nothing(one, held, time.time())
            self._tell()

    def _load(self, load: Load) -> None:
        number = load.partition.number
        rows = None
        try:
            with self._one_load:
                rows = self._store.load(number)
        except StoreUnknown as error:
            log.warning(
                "rows of partition %d can't be read for %s: %s", number, load.held.dc, error,
                extra={"fields": {"partition": number, "peer": load.held.dc}},
            )  # fmt: skip
        self._telling.loaded(load, rows, time.monotonic(), time.time())
        self._tell()

    def _tell(self) -> None:
        """Send what is to be told, and read what is missing for it."""
        answers, loads = self._telling.take()
        for load in loads:
            spawn("load of rows", self._load, load)
        for reply_to, chunks in answers.items():
            some: list[Chunk] = []
            size = 0
            for chunk in chunks:
                chunk_bytes = 100 + sum(len(row.page) * 2 + 20 for row in chunk.rows)
                if chunk.state is not None:
                    chunk_bytes += 80 * len(chunk.state.lanes)
                if some and size + chunk_bytes > ROWS_BYTES:
                    self._send(reply_to, some)
                    some, size = [], 0
                some.append(chunk)
                size += chunk_bytes
            if some:
                self._send(reply_to, some)

    def _send(self, reply_to: str, chunks: list[Chunk]) -> None:
        self._pushes.send(reply_to, encode(make(Rows, self._config.name, self._id, tuple(chunks))))


def _by_our_clock(chunk: Chunk) -> Chunk:
    """The chunk, as of a moment of our own wall clock: the sender's may be hours away, the duration that it says isn't."""
    if chunk.state is None:
        return chunk
    as_of_s = max(0, int(time.time() - chunk.age_ms / 1000))
    return replace(chunk, state=replace(chunk.state, as_of_s=as_of_s))

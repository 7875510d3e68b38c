"""The processor's shell: sockets, store and clock around its partitions.

Owns one PULL socket (batches in), the PUSH sockets to collectors (acks out), and who works on a
partition when. Decisions are `Partition`'s (what to write, what to ack) and `Tenure`'s (what to
take over, what to hand over). Knows nothing of HTTP.

Three kinds of greenlets: the receiver offers parts; the committer writes all dirty partitions
together, at once after a pause and then every `commit_s`; drivers, a bounded number at a time,
take partitions over and settle unknown writes, one greenlet per partition.
"""

from __future__ import annotations

import logging
import secrets
import time
from collections import defaultdict
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Final

import gevent
from gevent.event import Event
from gevent.lock import BoundedSemaphore

from hitmesh.config import Config
from hitmesh.errors import DecodeError, StoreUnknown
from hitmesh.hub.rest import rest
from hitmesh.mesh.client import MESH_SHARE, MeshClient
from hitmesh.mesh.duty import give_up, spawn
from hitmesh.mesh.network import Network
from hitmesh.mesh.pipes import Pushes, bind_pull
from hitmesh.mesh.sockets import COMPLAINT_S, FrameReader
from hitmesh.mesh.watchdog import Watchdog
from hitmesh.processor.partition import Partition
from hitmesh.processor.replication import Replication
from hitmesh.processor.steps import Acks, Counters, LoadRows, Offered, Phase, ReadHead, Recipient
from hitmesh.processor.trace import Odd, Trace
from hitmesh.protocol.messages import MAX_TOTAL, Ack, Applied, Batch, Close, Redirect, decode_head, encode, make
from hitmesh.protocol.stations import HANDING_OVER, LOST, TOOK_OVER, Told
from hitmesh.settings import SettingsStore
from hitmesh.settings.live import Live
from hitmesh.state.dues import LATE_S, Standstill
from hitmesh.state.histogram import Histogram
from hitmesh.state.leavers import Leavers
from hitmesh.state.ownership import Tenure
from hitmesh.state.senders import why_not
from hitmesh.state.standing import STORE
from hitmesh.state.view import MeshView, Owner, false_upto
from hitmesh.store import TotalsStore, Unknown, Write
from hitmesh.store.consul_service import ConsulService

if TYPE_CHECKING:
    from prometheus_client.core import Metric

    from hitmesh.metrics.admin import AdminListener

log = logging.getLogger(__name__)

LOADERS: Final = 2  # partitions whose rows are read at a time: they share a core, and the first is to be ready first
DRIVERS: Final = 8  # partitions taken over or settled at a time; more only queue up at the store
BACKOFF_S: Final = (0.05, 0.1, 0.2, 0.5, 1.0)  # after an unknown answer of the store; the last one repeats
ACK_PAGE_BYTES: Final = 1024 * 1024  # page names in one ack message, well below a frame's limit
GATHER_S: Final = 0.01  # for every collector's hits to a partition that was just taken over, before they are committed
TURN_S: Final = 0.005  # of the hub, for a commit, before others have theirs: a thousand rows take some 4 ms
TAKEN: Final = -1  # stands for all partitions that are being taken over, among the numbers of those that owe a commit
FAULTS_S: Final = 1.0  # between two looks at the faults: what arrives can't fill the log with them
TENURE_S: Final = 0.2  # between two looks at who should own what, when the mesh is quiet


class Processor:
    """One processor process. At `admin` its metrics are told; `room` says how full its disk is."""

    def __init__(
        self,
        config: Config,
        *,
        name: str,
        store: TotalsStore,
        settings: SettingsStore,
        network: Network,
        admin: AdminListener | None = None,
        room: Callable[[], Mapping[str, float]] = dict,
    ) -> None:
        self._room = room
        self._config = config
        self._name = name
        self._admin = admin
        self._commits = Histogram()
        self._settings = settings
        self._live = live = Live(config, settings, self._settings_changed)
        self._store = store
        self._network = network
        self._id = f"{name}.{secrets.token_hex(6)}"
        pull, endpoint = bind_pull(
            network, config.placement("processor", name).address, "batches", heartbeat_s=config.timing.heartbeat_s
        )
        self._frames = FrameReader(network, pull, endpoint, link="batches", clock=time.monotonic, rest=rest)
        self._pushes = Pushes(network, heartbeat_s=config.timing.heartbeat_s, queue_unconnected=True)
        self._counters = Counters()
        self._trace = Trace()
        self._partitions = [
            Partition(
                number,
                dc=config.name,
                me=self._id,
                ledger=secrets.token_hex(8),
                max_rows=store.max_rows,
                max_write_bytes=store.max_write_bytes,
                counters=self._counters,
                partitions=config.partitions,
                is_living=self._is_living,
            )
            for number in range(config.partitions)
        ]
        self._driven: set[int] = set()  # partitions that a driver works on
        self._slots = BoundedSemaphore(DRIVERS)
        self._loads = BoundedSemaphore(LOADERS)
        self._dirty = Event()
        self._turn_s = 0.0  # when the committer last let others have the hub
        self._urgent = Event()  # somebody waits for the next commit: it doesn't wait for its time
        self._fresh: set[int] = set()  # partitions taken over, to which no hit has come since
        self._mesh_changed = Event()
        self._stopping = False
        self._watchdog = Watchdog()
        self._standstill = Standstill()
        self._faults_told_s = self._refusals_told_s = 0.0
        self._refusals_told = 0
        self._false_claims = 0
        self._has_taken = False  # any partition, ever
        self._complained_s = float("-inf")
        self._leavers = Leavers()
        self._tenure = Tenure(
            name=name, id=self._id, partitions=config.partitions, heartbeat_s=config.timing.heartbeat_s
        )
        self._replication = Replication(
            live,
            name=name,
            id=self._id,
            partitions=self._partitions,
            store=store,
            network=network,
            drive=self._drive,
            commit=self._dirty.set,
            trace=self._trace,
        )
        self.mesh = MeshClient(
            config,
            role="processor",
            name=name,
            instance_id=self._id,
            endpoints={
                "batches": endpoint,
                "rows": self._replication.endpoint,
                **({"admin": admin.url} if admin is not None else {}),
            },
            network=network,
            load=self._load,
            owns=self._owns,
            on_change=self._on_change,
            late=self._late,
            written=lambda: live.written,
            drained=self._is_drained,
            registered=ConsulService.of(
                config, role="processor", name=name, instance_id=self._id, endpoints={"batches": endpoint}
            ),
        )

    def start(self) -> None:
        """Begin to work."""
        self._watchdog.start()
        self._live.start()
        self.mesh.start()
        spawn("batch receiver", self._receive)
        spawn("committer", self._commit)
        spawn("tenure", self._keep_tenure)
        self._replication.start(self.mesh.view)
        if self._admin is not None:
            self._admin.start(self._collect, self._late, self._tell_trace)

    def stop(self) -> None:
        """Hand every partition over, committing what is staged; bounded by `drain_s`."""
        self._stopping = True
        self.mesh.drain()
        began, drain_s = time.monotonic(), self._config.timing.drain_s
        # A few at a time, as long as that goes well.
        while time.monotonic() < began + drain_s / 2 and any(p.phase is not Phase.AWAY for p in self._partitions):
            self._look_at_tenure(draining=True)
            gevent.sleep(0.01)
        for partition in self._partitions:
            partition.leave()
        self._dirty.set()
        self._urgent.set()
        while time.monotonic() < began + drain_s and any(p.phase is not Phase.AWAY for p in self._partitions):
            gevent.sleep(0.01)
        left = [p.number for p in self._partitions if p.phase is not Phase.AWAY]
        if left:
            log.warning(
                "stopped before partitions %s were handed over; the spool keeps their hits", left,
                extra={"fields": {"partitions": len(left)}},
            )  # fmt: skip
        if self._admin is not None:
            self._admin.stop()
        self.mesh.stop()
        self._pushes.close()
        self._replication.stop()
        self._watchdog.stop()
        self._store.close()
        self._live.stop()
        self._settings.close()

    def _settings_changed(self) -> None:
        self.mesh.announce()
        self._replication.wake()
        self._mesh_changed.set()  # an operator may want it to give its partitions away

    def _is_drained(self) -> bool:
        return self._live.is_drained(self._name)

    # --- what others ask ---------------------------------------------------------------------

    def _owns(self) -> Mapping[int, int]:
        # One that is being handed over too, until what is staged is committed: whoever takes it before
        # either fences that commit or is refused by it, and waits a heartbeat.
        return {p.number: p.epoch for p in self._partitions if p.epoch}

    def _late(self) -> str:
        """Why this processor fails to do its work; empty when it does it."""
        if late := self._watchdog.late():
            return late
        owned = [p for p in self._partitions if p.epoch]
        owing: dict[int, object] = {p.number: p.commit for p in owned if p.is_dirty or p.phase is not Phase.OWNED}
        # They wait for each other: that one of them comes through is enough.
        taken = [p for p in self._partitions if not p.epoch and p.phase is not Phase.AWAY and not p.is_waiting]
        if taken:
            owing[TAKEN] = [p.number for p in taken]
        waiting = self._standstill.late(owing, time.monotonic())
        return f"partitions have waited for the totals store for {LATE_S:g} s" if waiting else ""

    def _load(self) -> dict[str, float]:
        counters = self._counters
        return {
            "hits": counters.applied_hits,
            "commits": counters.commits,
            "duplicates": counters.duplicates,
            "dropped": counters.dropped,
            "step_downs": counters.step_downs,
            "refused": counters.refused,
            "faults": len(counters.faults),
            "bad_frames": self._frames.bad,
            "false_claims": self._false_claims,
            "partitions": sum(1 for p in self._partitions if p.epoch),
            "pages": sum(p.pages for p in self._partitions),
            STORE: self._store.place,
            "rows_received": counters.rows_received,
            **self._room(),
            **self._live.load(),
            **self._replication.load(),
        }

    def _collect(self) -> Iterator[Metric]:
        from hitmesh.processor import metrics  # with Prometheus's client, which nobody needs who isn't asked

        return metrics.collect(
            self._config.name,
            self._name,
            self.mesh.figures(),
            commits=self._commits,
            lag=self.mesh.lag(),
            is_failing=bool(self._late()),
        )

    def _tell_trace(self, ids: Sequence[str], last: int) -> Told:
        """What this processor remembers of pages or batches."""
        known, stations, more = self._trace.find(ids, last, time.monotonic(), time.time(), rest)
        return Told(
            dc=self._config.name, role="processor", name=self._name,
            known=tuple(known), stations=tuple(stations), more=more,
        )  # fmt: skip

    # --- batches -----------------------------------------------------------------------------

    def _receive(self) -> None:
        while (message := self._frames.receive(Batch, Close)) is not None:
            if isinstance(message, Close):
                self._close_lanes(message)
            else:
                self._offer(message)

    def _offer(self, batch: Batch) -> None:
        at_once: list[Applied] = []
        odd: list[Odd] = []
        misdirected: dict[int, int] = {}
        staged = False
        refusal = self._why_not(batch.worker)
        for addressed in batch.parts:
            number = addressed.part.partition
            if number >= len(self._partitions):
                self._counters.refuse(batch.worker, f"partition {number} of {len(self._partitions)}")
                odd.append((number, addressed.part.seq, Offered.REFUSED, 0, "there is no such partition"))
                continue
            partition = self._partitions[number]
            offered, applied = partition.offer(
                batch.worker, batch.reply_to, addressed.epoch, addressed.part, why_not=refusal
            )
            if offered is Offered.MISDIRECTED:
                misdirected[number] = partition.epoch
            elif offered is Offered.STAGED:
                staged = True
                if number in self._fresh:
                    # These hits have waited for a whole hand-over.
                    self._fresh.discard(number)
                    self._urgent.set()
            elif applied is not None:
                at_once.append(applied)
            if offered is not Offered.STAGED:
                why = self._counters.refusal if offered is Offered.REFUSED else ""
                odd.append((number, addressed.part.seq, offered, partition.epoch, why))
        self._trace.received(time.monotonic(), self._frames.frame, odd)
        if staged:
            self._pushes.open(batch.reply_to)  # so that the ack finds a connection
            self._dirty.set()
        if misdirected:
            self._pushes.send(batch.reply_to, encode(make(Redirect, self._id, misdirected)))
        if at_once:
            self._acknowledge({(batch.reply_to, batch.worker): at_once})

    def _why_not(self, worker: str) -> str:
        """Why parts of this worker's lanes aren't added when the sender of the last message sends them."""
        keyring = self._network.keyring
        sender = keyring.keys.owner(self._frames.key) if keyring is not None else None
        return why_not(sender, worker, self.mesh.view, time.monotonic(), self._config.timing.retry_delay_s)

    def _close_lanes(self, message: Close) -> None:
        # Without its lane a worker that goes on would have nothing applied, and a dead one's jobs, which may be
        # in a spool, could be applied again. A worker that closes its lanes has said before that it stops.
        if not self._leavers.has_said_so(message.worker, self.mesh.view.live("collector")):
            self._counters.refuse(message.worker, "it closes its lanes, and the mesh doesn't show that it stops")
            return
        for end in message.lanes:
            if end.partition < len(self._partitions):
                self._partitions[end.partition].close_lane(message.worker, end)

    def _acknowledge(self, acks: Mapping[Recipient, list[Applied]]) -> None:
        now_s = time.monotonic()
        for (reply_to, worker), applied in acks.items():
            self._trace.applied(now_s, worker, applied)
            for chunk in _chunks(applied):
                self._pushes.send(reply_to, encode(make(Ack, worker, tuple(chunk))))

    # --- commits -----------------------------------------------------------------------------

    def _commit(self) -> None:
        not_before = 0.0
        while True:
            self._dirty.wait()
            pause = not_before - time.monotonic()
            if pause > 0 and self._urgent.wait(pause):
                gevent.sleep(GATHER_S)
            self._urgent.clear()
            self._dirty.clear()
            not_before = time.monotonic() + self._live.config.timing.commit_s
            self._commit_round()

    def _commit_round(self) -> None:
        now_s = time.time()
        self._turn_s = time.monotonic()
        due: list[Partition] = []
        writes: list[Write] = []
        for partition in self._partitions:
            if partition.phase is Phase.OWNED and partition.is_dirty and partition.number not in self._driven:
                step = partition.step(now_s)
                assert isinstance(step, Write)
                due.append(partition)
                writes.append(step)
                self._let_others()
        if not due:
            return
        leaving = {partition.number for partition in due if partition.leaving}
        began_s = time.monotonic()
        with self._watchdog.expect("a commit"):
            outcomes = self._store.write(writes)
        self._commits.observe(time.monotonic() - began_s)
        acks: dict[Recipient, list[Applied]] = defaultdict(list)
        wrote: list[Partition] = []
        self._turn_s = time.monotonic()
        for partition, outcome in zip(due, outcomes, strict=True):
            if isinstance(outcome, Unknown):
                log.warning(
                    "commit of partition %d is unknown: %s", partition.number, outcome.reason, extra=_about(partition)
                )
            _gather(partition.wrote(outcome), acks)
            wrote.append(partition)
            if self._is_long_turn() or partition is due[-1]:
                # Nobody else has the hub between `wrote` and here, where it is seen what became of these.
                self._acknowledge(acks)
                self._replication.committed(wrote)
                self._after_steps(wrote, leaving)
                acks.clear()
                wrote.clear()
                self._let_others()

    def _is_long_turn(self) -> bool:
        return time.monotonic() - self._turn_s > TURN_S

    def _let_others(self) -> None:
        """Let parts come in while a commit of many rows is made, or made known."""
        if self._is_long_turn():
            rest()
            self._turn_s = time.monotonic()

    def _after_steps(self, partitions: list[Partition], leaving: Container[int]) -> None:
        for partition in partitions:
            if partition.phase not in (Phase.OWNED, Phase.AWAY):
                self._drive(partition)
            elif partition.phase is Phase.AWAY:
                if partition.number not in leaving:
                    self._lost(partition)
                self._tenure.refused(partition.number, time.monotonic())
                self.mesh.announce()
            elif partition.is_dirty:
                self._dirty.set()
                if partition.leaving:
                    self._urgent.set()
        self._tell_faults()

    def _lost(self, partition: Partition) -> None:
        """Somebody else owns it now, or it can't be read: said as a fault then."""
        self._trace.partition(time.monotonic(), partition.number, LOST, 0)
        log.warning(
            "partition %d isn't ours any more: what wasn't committed is sent again to its owner", partition.number,
            extra={"fields": {"partition": partition.number}},
        )  # fmt: skip

    # --- taking over, settling ---------------------------------------------------------------

    def _drive(self, partition: Partition) -> None:
        if partition.number not in self._driven:
            self._driven.add(partition.number)
            spawn(f"driver of partition {partition.number}", self._carry_on, partition)

    def _carry_on(self, partition: Partition) -> None:
        """Carry out a partition's steps until it is owned or away."""
        with self._slots:
            self._carry_out_steps(partition)

    def _carry_out_steps(self, partition: Partition) -> None:
        unknowns = 0
        was_owned, was_leaving = partition.epoch > 0, partition.leaving
        while partition.phase not in (Phase.OWNED, Phase.AWAY) and not partition.is_waiting:
            try:
                settled = self._carry_out(partition)
            except StoreUnknown as error:
                log.warning(
                    "partition %d, %s: %s", partition.number, partition.phase.value, error, extra=_about(partition)
                )
                partition.failed()
                settled = False
            if settled:
                unknowns = 0
            else:
                gevent.sleep(BACKOFF_S[min(unknowns, len(BACKOFF_S) - 1)])
                unknowns += 1
        self._driven.discard(partition.number)
        if partition.phase is Phase.AWAY and was_owned and not was_leaving:
            self._lost(partition)
        if partition.phase is Phase.AWAY and not partition.leaving:
            self._tenure.refused(partition.number, time.monotonic())
        if partition.phase is Phase.OWNED and not was_owned:
            self._fresh.add(partition.number)
            self._trace.partition(time.monotonic(), partition.number, TOOK_OVER, partition.epoch)
            log.info("took partition %d over", partition.number, extra=_about(partition))
        if partition.phase is Phase.AWAY or not was_owned:
            self.mesh.announce()
        self._replication.committed([partition])
        if partition.is_dirty:
            self._dirty.set()
        self._tell_faults()

    def _carry_out(self, partition: Partition) -> bool:
        """One step; False when the store's answer was unknown."""
        step = partition.step(time.time())
        acks: Acks = {}
        known = True
        if isinstance(step, ReadHead):
            with self._watchdog.expect("a read of a head"):
                head = self._store.read_head(partition.number)
            acks = partition.head_read(head)
        elif isinstance(step, LoadRows):
            with self._loads, self._watchdog.expect("a read of a partition's rows"):
                rows = self._store.load(partition.number)
            partition.rows_loaded(rows)
        elif isinstance(step, Write):
            with self._watchdog.expect("a write of a partition"):
                (outcome,) = self._store.write([step])
            if isinstance(outcome, Unknown):
                known = False
                log.warning(
                    "write of partition %d is unknown: %s", partition.number, outcome.reason, extra=_about(partition)
                )
            acks = partition.wrote(outcome)
        self._acknowledge({to: [applied] for to, applied in acks.items()})
        return known

    def _keep_tenure(self) -> None:
        while not self._stopping:
            self._mesh_changed.wait(TENURE_S)
            self._mesh_changed.clear()
            self._tell_faults()
            if not self._stopping:
                began = time.monotonic()
                self._look_at_tenure()
                for partition in self._partitions:
                    partition.tidy(time.time())
                gevent.sleep(min(MESH_SHARE * (time.monotonic() - began), TENURE_S))

    def _look_at_tenure(self, *, draining: bool = False) -> None:
        owned = {p.number: p.epoch for p in self._partitions if p.phase is not Phase.AWAY}
        steps = self._tenure.steps(
            self.mesh.view, owned, time.monotonic(), draining=draining, drained=self._is_drained()
        )  # fmt: skip
        for number in steps.hand_over:
            partition = self._partitions[number]
            if not partition.leaving:
                log.info("handing partition %d over", number, extra=_about(partition))
                self._trace.partition(time.monotonic(), number, HANDING_OVER, partition.epoch)
                partition.leave()
                self._dirty.set()
                self._urgent.set()
                self.mesh.announce()
        for number in steps.check:
            owner = self.mesh.view.owner(number)
            if owner is not None:
                spawn(f"check of partition {number}", self._check_claim, number, owner)
        if steps.take and not self._has_taken:
            self._check_store()
            self._has_taken = True
        for number in steps.take:
            self._partitions[number].take(alone=self._replication.is_alone())
            self._drive(self._partitions[number])

    def _check_store(self) -> None:
        """End before anything is counted where the others of the datacenter wouldn't find it."""
        place = self._store.place
        for one in self.mesh.view.live("processor"):
            other = one.load.get(STORE, 0.0)
            if one.id != self._id and place and other and other != place:
                self.mesh.stop()  # others have begun to hand partitions over: they are to take them back at once
                give_up(
                    f"{one.name} counts in another totals store than {self._config.stores.totals} is here: what is counted "
                    "here would be missing there; --state-dir says where the datacenter's files are"
                )

    def _check_claim(self, number: int, claim: Owner) -> None:
        """Whether the head says what another processor does: who owns is decided there, and nowhere else."""
        try:
            with self._slots:
                stored = self._store.read_head(number)
            head = decode_head(stored.body) if stored is not None else None
        except (StoreUnknown, DecodeError):
            return  # unknown: what is ours stays
        upto = false_upto(claim, head)
        is_false = upto == MAX_TOTAL  # or else out of date: somebody has taken the partition since
        self._tenure.checked(number, claim.instance.id, claim.epoch, time.monotonic(), is_true=not is_false)
        if not upto:
            partition = self._partitions[number]
            if 0 < partition.epoch < claim.epoch:
                partition.leave()  # its commits are refused from now on
                self._dirty.set()
                self.mesh.announce()
            return
        self._false_claims += is_false
        if is_false and time.monotonic() - self._complained_s >= COMPLAINT_S:
            self._complained_s = time.monotonic()
            log.warning(
                "%s says that it owns partition %d, and the totals store says otherwise (%d such claims so far)",
                claim.instance.id, number, self._false_claims,
                extra={"fields": {"partition": number, "epoch": claim.epoch, "claimed_by": claim.instance.id}},
            )  # fmt: skip
        self.mesh.view.refute(number, claim.instance.id, claim.epoch, upto)
        self._mesh_changed.set()

    def _on_change(self, view: MeshView) -> None:
        self._leavers.look(view.live("collector"))
        self._mesh_changed.set()
        self._replication.wake()

    def _is_living(self, worker: str) -> bool:
        return any(one.id == worker for one in self.mesh.view.live("collector"))

    def _tell_faults(self) -> None:
        """Log what is new, at a rate that nobody who sends can raise."""
        now_s, counters = time.monotonic(), self._counters
        if counters.untold and now_s - self._faults_told_s >= FAULTS_S:
            for fault in counters.untold:
                log.error("%s", fault)
            counters.untold, self._faults_told_s = [], now_s
        if counters.refused > self._refusals_told and now_s - self._refusals_told_s >= COMPLAINT_S:
            more = counters.refused - self._refusals_told
            log.warning(
                "refused %d parts or rows (%d so far), at last of %s", more, counters.refused, counters.refusal,
                extra={"fields": {"refused": more}},
            )  # fmt: skip
            self._refusals_told, self._refusals_told_s = counters.refused, now_s


def _about(partition: Partition) -> Mapping[str, object]:
    """The fields of an event of a partition's."""
    return {"fields": {"partition": partition.number, "epoch": partition.epoch, "commit": partition.commit}}


def _gather(acks: Acks, into: dict[Recipient, list[Applied]]) -> None:
    for to, applied in acks.items():
        into[to].append(applied)


def _chunks(applied: list[Applied]) -> list[list[Applied]]:
    chunks: list[list[Applied]] = [[]]
    size = 0
    for one in applied:
        one_size = sum(len(page) for page in one.totals) * 4
        if chunks[-1] and size + one_size > ACK_PAGE_BYTES:
            chunks.append([])
            size = 0
        chunks[-1].append(one)
        size += one_size
    return chunks

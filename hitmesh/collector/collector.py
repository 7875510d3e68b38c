"""The collector's shell: group commit into the spool, pushes to owners, acks.

Owns the forming batch, the PUSH sockets to processors and the PULL socket for acks. Decisions
are `Batches`' (what to send again, what is done), `Known`'s (what to answer) and `Ages`' (how old it
is). Knows nothing of HTTP, of commits, nor of how a store lays its rows out.

A hit is added to the forming batch and waits for it. The committer puts one batch at a time: while
a put is under way the next batch forms, so a batch is as large as the spool is slow, and nobody
waits for a timer.
"""

from __future__ import annotations

import logging
import secrets
import time
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Final

import gevent
from gevent.event import Event
from gevent.hub import get_hub

from hitmesh.collector.batches import Batches, Flight
from hitmesh.collector.claims import Claimer
from hitmesh.collector.doubts import Doubts
from hitmesh.collector.known import Known, Total
from hitmesh.collector.listed import Listed
from hitmesh.collector.reader import Reader
from hitmesh.collector.rules import Rules
from hitmesh.collector.slow import SlowRequests
from hitmesh.collector.trace import ALL, Trace
from hitmesh.config import Config
from hitmesh.errors import HitmeshError, SpoolRefused, SpoolUnknown, StoreUnknown
from hitmesh.hub.rest import rest
from hitmesh.mesh.client import MeshClient
from hitmesh.mesh.duty import spawn
from hitmesh.mesh.network import Network
from hitmesh.mesh.pipes import Pushes, bind_pull
from hitmesh.mesh.sockets import FrameReader
from hitmesh.mesh.watchdog import Watchdog
from hitmesh.protocol.bounds import check_applied
from hitmesh.protocol.messages import ERA, Ack, Addressed, Applied, Batch, Close, Redirect, encode, make
from hitmesh.protocol.names import split_key
from hitmesh.protocol.stations import Told
from hitmesh.settings import SettingsStore
from hitmesh.settings.live import Live
from hitmesh.spool import JobId, Spool
from hitmesh.state.ages import Ages, AsOf
from hitmesh.state.histogram import Histogram
from hitmesh.state.peers import Peers
from hitmesh.state.recent import Recent
from hitmesh.state.senders import REFUSED_PUTS, UNACKED_S, UNKNOWN
from hitmesh.state.standing import P99
from hitmesh.state.view import MeshView
from hitmesh.store import TotalsStore
from hitmesh.store.consul_service import ConsulService
from hitmesh.store.totals import Reading

if TYPE_CHECKING:
    from prometheus_client.core import Metric

    from hitmesh.metrics.admin import AdminListener

log = logging.getLogger(__name__)

MAX_FORMING: Final = 64  # closed batches that wait for their put; past it the spool is too slow to accept more
PUT_RETRY_S: Final = 5.0  # for a put without a clear answer; a supervisor restarts a spool server within two
PUT_RETRY_PAUSE_S: Final = 0.1
GATHER_S: Final = 0.002  # for which a batch is kept from its put by more and more who join it: about as long as a sync
SEND_BYTES: Final = 1024 * 1024  # of parts in one frame, well below a frame's limit
TICK_S: Final = 0.1  # how often overdue flights are looked for, and what processors say of their copies' age
MAX_REDIRECT: Final = 2 * ERA  # epochs ahead of what the mesh says: some take-overs, or a store that was wiped
MAX_RESENT: Final = 500  # flights sent again in one tick
DELETE_PAUSE_S: Final = 0.02  # gathers finished jobs, so that a spool can delete them together
RELEASES: Final = 500  # answers that are given before others have a turn: some milliseconds
MAX_DELETES: Final = 2000  # of jobs at once: a fraction of a second, after an outage too


class Forming:
    """A batch that hits are being added to, and what became of it."""

    __slots__ = (
        "_calls", "_error", "_event", "answers", "began_s", "counts", "done_s", "ids", "pages", "put_s", "requests",
        "size_bytes",
    )  # fmt: skip

    def __init__(self, began_s: float) -> None:
        self.counts: dict[str, int] = {}
        self.requests = 0
        self.size_bytes = 0
        self.began_s = began_s  # monotonic, as the others: when its first hit came
        self.put_s = self.done_s = 0.0  # when it went to the spool, and when that had answered
        # Of the requests that have an id, and the page of each: together no more than there are requests under way.
        self.ids: list[str] = []
        self.pages: list[str] = []
        self._event = Event()
        self._error: SpoolRefused | SpoolUnknown | None = None
        self._calls: list[Callable[[], None]] = []
        self.answers: dict[str, bytes] | None = None
        """What hits of a page are answered, while those are called who wait: one answer for all of them."""

    def add(self, counts: Mapping[str, int]) -> None:
        """Add a request's hits."""
        self.requests += 1
        for page, count in counts.items():
            before = self.counts.get(page)
            if before is None:
                self.size_bytes += len(page.encode())
                self.counts[page] = count
            else:
                self.counts[page] = before + count

    def outcome(self) -> SpoolRefused | SpoolUnknown | None:
        """Wait for it: None once the batch is on stable storage, or why it isn't."""
        self._event.wait()
        return self._error

    def wait(self) -> None:
        """Return once the batch is on stable storage; raise SpoolRefused or SpoolUnknown otherwise."""
        error = self.outcome()
        if error is not None:
            raise error

    def is_answered(self, page: str) -> bool:
        """Whether no more need be known to answer a hit of the page, now that the batch is released."""
        return self._error is not None or (self.answers is not None and page in self.answers)

    def when_released(self, call: Callable[[], None]) -> None:
        """Call this instead of letting somebody wait. It must not block, and is not called before this returns."""
        self._calls.append(call)

    def release(self, error: SpoolRefused | SpoolUnknown | None = None) -> None:
        """Let everybody who waits go on."""
        self._error = error
        self._event.set()
        calls, self._calls = self._calls, []
        for at in range(0, len(calls), RELEASES):
            if at:
                gevent.sleep(0)
            self.answers = {}
            for call in calls[at : at + RELEASES]:
                try:
                    call()
                except Exception:
                    log.exception("whoever waited for a batch failed")
            self.answers = None


class Collector:
    """One collector worker process: a lane per partition, under an id of its own. At `admin` its metrics are told;
    `room` says how full its disk is.
    """

    def __init__(
        self,
        config: Config,
        *,
        name: str,
        spool: Spool,
        store: TotalsStore,
        settings: SettingsStore,
        network: Network,
        admin: AdminListener | None = None,
        room: Callable[[], Mapping[str, float]] = dict,
    ) -> None:
        self._room = room
        self._config = config  # of the file, for what only a restart changes
        self.live = Live(config, settings, self._settings_changed)
        """The live settings in force."""
        self.rules = Rules(self.live)
        """Their rules of what is a page, and what a visit."""
        self._settings = settings
        self.name = name
        self._spool = spool
        self._store = store
        self._network = network
        self._admin = admin
        self.answers = Histogram()
        """How long the answers to hits took, from the whole request on."""
        self._lately = Recent(self.answers)
        self.refusals: Counter[str] = Counter()
        """Requests that were answered with an error, by reason: a few fixed words."""
        self._puts, self._commits_s = Histogram(), Histogram()
        self._trace = Trace()
        self.slow = SlowRequests(config.log.slow_ms)
        """Requests that take long, for the log."""
        self.id = f"{name}.{secrets.token_hex(6)}"
        self._batches = Batches(
            self.id,
            partitions=config.partitions,
            resend_s=config.timing.resend_s,
            unacked_bytes=config.limits.unacked_bytes,
        )
        self._known = Known(dc=config.name, fresh_s=config.timing.fresh_s, max_pages=config.limits.known_pages)
        self._ages = Ages()
        self._reader = Reader(
            store,
            partitions=config.partitions,
            worker=self.id,
            ages=self._ages,
            has_peers=self._has_peers,
            told=self._told,
        )
        self._queue: deque[Forming] = deque()
        self._has_hits = Event()
        self._putting = False
        self._done: list[JobId] = []
        self._has_done = Event()
        pull, self._ack_endpoint = bind_pull(
            network, config.placement("collector", name).address, "acks", heartbeat_s=config.timing.heartbeat_s
        )
        self._frames = FrameReader(network, pull, self._ack_endpoint, link="acks", clock=time.monotonic, rest=rest)
        self._pushes = Pushes(network, heartbeat_s=config.timing.heartbeat_s, queue_unconnected=False)
        # partition -> owner's instance id, epoch, and when its last heartbeat before that was heard
        self._redirects: dict[int, tuple[str, int, float | None]] = {}
        self._epochs: dict[int, int] = {}  # partition -> the highest that parts were sent under: no ack has a higher
        self._commits: dict[int, int] = {}  # partition -> the latest that was told: an ack isn't far ahead of it
        self._owners: dict[int, tuple[str, int]] = {}  # partition -> endpoint and epoch, as of the last look
        self._doubts = Doubts(store)
        self._watchdog = Watchdog()
        self._claimer = Claimer(
            spool,
            self._batches,
            unacked_bytes=config.limits.unacked_bytes,
            send=partial(self._send, why="claimed"),
            trace=self._trace,
            read_head=store.read_head,
            watchdog=self._watchdog,
        )
        self._peers = Peers(config.name, config.peers)
        self._draining = False
        self._resent = 0
        self._refused_puts = 0
        self.mesh: MeshClient | None = None

    def start(self, http: str) -> None:
        """Begin to work; `http` is the URL that hits reach this worker at."""
        admin = {"admin": self._admin.url} if self._admin is not None else {}
        self.mesh = MeshClient(
            self._config,
            role="collector",
            name=self.name,
            instance_id=self.id,
            endpoints={"http": http, "acks": self._ack_endpoint, **admin},
            network=self._network,
            load=self._load,
            on_change=self._on_change,
            late=self._watchdog.late,
            written=lambda: self.live.written,
            drained=lambda: self.live.is_drained(self.name),
            registered=ConsulService.of(
                self._config,
                role="collector",
                name=self.name,
                instance_id=self.id,
                endpoints={"http": http},
                why_not=self._why_not,
            ),
        )
        self._watchdog.start()
        self.mesh.start()
        self.live.start()
        self._reader.start()
        for duty in (self._commit, self._receive_acks, self._resend, self._delete, self._claimer.run, self._doubts.run):
            spawn(f"collector's {duty.__name__.strip('_')}", duty)
        if self._admin is not None:
            self._admin.start(self._collect, self._watchdog.late, self._tell_trace)
        log.info("takes hits at %s/hit/<page>", http, extra={"fields": {"url": http, "worker": self.id}})

    def leave(self) -> None:
        """Tell everybody to send no more; what they send until they have heard it is taken."""
        self._claimer.stop()
        if self.mesh is not None:
            self.mesh.drain()

    def drain(self) -> None:
        """Take no more than there is."""
        log.info("draining", extra={"fields": {"jobs": self._batches.unacked}})
        self.leave()
        self._draining = True

    def stop(self) -> None:
        """Wait until everything accepted is committed and deleted, bounded by `drain_s`; close the lanes."""
        deadline = time.monotonic() + self._config.timing.drain_s
        while time.monotonic() < deadline and (
            self._queue or self._putting or self._batches.unacked or self._done or self._batches.claims
        ):
            gevent.sleep(0.01)
        if self._batches.unacked:
            log.warning(
                "stopped with %d jobs unacked; the spool keeps them", self._batches.unacked,
                extra={"fields": {"jobs": self._batches.unacked}},
            )  # fmt: skip
        self._close_lanes()
        if self._admin is not None:
            self._admin.stop()
        self._watchdog.stop()
        self.live.stop()
        if self.mesh is not None:
            self.mesh.stop()
        self._pushes.close()
        self._spool.close()
        self._store.close()
        self._settings.close()

    # --- what the HTTP side asks ---------------------------------------------------------------

    def submit(self, counts: Mapping[str, int], request_id: str = "", page: str = ALL) -> Forming:
        """Add hits to the forming batch; `wait` on what is returned before answering them.

        `request_id` is that of the request that they came with, and `page` its one page, if it has one.
        """
        if self._draining:
            raise SpoolRefused("this collector is stopping", hint="ask another one")
        limits = self.live.config.limits
        forming = self._queue[-1] if self._queue else None
        if (
            forming is None
            or len(forming.counts) + len(counts) > limits.forming_pages
            or forming.size_bytes > limits.forming_bytes
        ):
            if len(self._queue) >= MAX_FORMING:
                raise SpoolRefused("the spool is slower than the hits that come in", hint="try again in a second")
            forming = Forming(time.monotonic())
            self._queue.append(forming)
        forming.add(counts)
        if request_id:
            forming.ids.append(request_id)
            forming.pages.append(page)
        self._has_hits.set()
        return forming

    def nothing(self) -> Forming:
        """A batch without hits, which is released at once: for an answer to what isn't counted."""
        forming = Forming(time.monotonic())
        get_hub().loop.run_callback(forming.release)
        return forming

    def prefetch(self, page: str) -> None:
        """Begin to read a page's total, if it isn't known well enough to be answered."""
        if not self._known.is_fresh(page, time.monotonic()):
            self._reader.want(page)

    def is_known(self, page: str) -> bool:
        """Whether its total can be answered without a read."""
        return self._known.is_fresh(page, time.monotonic())

    def total(self, page: str) -> Total:
        """The page's total; reads it when it isn't fresh, for at most `read_s`."""
        now_s = time.monotonic()
        if not self._known.is_fresh(page, now_s):
            self._reader.wait(page, self.live.config.timing.read_s)
            now_s = time.monotonic()
        return self._known.answer(page, now_s)

    def check(self) -> None:
        """Raise SpoolRefused with the reason when this collector can't accept a hit now."""
        if self._draining:
            raise SpoolRefused("this collector is stopping")
        if late := self._watchdog.late():
            raise SpoolRefused(late)
        if self._batches.is_used_up:
            raise _used_up()
        self._spool.check()

    def _why_not(self) -> str:
        """The same in words; empty when it can."""
        try:
            self.check()
        except HitmeshError as error:
            return error.reason
        return ""

    def all_totals(self) -> Listed:
        """Every page's committed counts. Raises StoreUnknown."""
        listing, as_of, read_s = self._reader.all_totals()
        if len(listing.restoring) >= self._config.partitions:
            raise StoreUnknown("no total is known yet", hint="the rows are being brought back from other datacenters")
        partitions = self._config.partitions
        return Listed(
            listing, as_of, dc=self._config.name, partitions=partitions, read_s=read_s, now_s=time.monotonic()
        )

    def _settings_changed(self) -> None:
        """Live settings are in force that may be others than before; what is read at every use isn't looked at."""
        config = self.live.config
        self._batches.resend_s = config.timing.resend_s
        self._batches.limit_bytes = self._claimer.limit_bytes = config.limits.unacked_bytes
        self.slow.set(config.log.slow_ms)
        self._known.fresh_s, self._known.max_pages = config.timing.fresh_s, config.limits.known_pages
        if self.mesh is not None:
            self.mesh.announce()  # which version is in force here

    def _has_peers(self) -> bool:
        """Whether there are, or may be, other datacenters that have rows of this one."""
        self._peers.saw(self._ages.others)  # who was there once may be cut off now
        return self._peers.known(self.mesh.view if self.mesh else None, self.live.retired) != frozenset()

    def _load(self) -> dict[str, float]:
        batches = self._batches
        return {
            "accepted": batches.accepted,
            "acked": batches.acked,
            UNKNOWN: batches.unknown,
            "jobs": batches.unacked,
            UNACKED_S: int(batches.oldest_s(time.monotonic())),
            "claims": batches.claims,
            "resent": self._resent,
            REFUSED_PUTS: self._refused_puts,
            "unacked_bytes": batches.size_bytes,
            "bad_frames": self._frames.bad,
            "jumps": batches.jumps,
            "in_doubt": batches.in_doubt,
            "false_claims": self._doubts.refuted,
            **({} if (p99_s := self._lately.p99_s(time.monotonic())) is None else {P99: round(p99_s * 1000, 1)}),
            **self._room(),
            **self.live.load(self.name),
        }

    def _collect(self) -> Iterator[Metric]:
        from hitmesh.collector import metrics  # with Prometheus's client, which nobody needs who isn't asked

        assert self.mesh is not None
        return metrics.collect(
            self._config.name,
            self.name,
            self.mesh.figures(),
            times={"hit": self.answers, "spool_put": self._puts, "commit": self._commits_s},
            refusals=self.refusals,
            ignored=self.rules.ignored,
            lag=self.mesh.lag(),
            is_failing=bool(self._watchdog.late()),
        )

    def _tell_trace(self, ids: Sequence[str], last: int) -> Told:
        """What this worker remembers of pages, requests or batches."""
        known, stations, more = self._trace.find(
            ids, last, time.monotonic(), time.time(), rest
        )  # fmt: skip
        return Told(
            dc=self._config.name, role="collector", name=self.name,
            known=tuple(known), stations=tuple(stations), more=more,
        )  # fmt: skip

    # --- group commit --------------------------------------------------------------------------

    def _commit(self) -> None:
        while True:
            self._has_hits.wait()
            self._putting = True
            while self._queue:
                self._gather()
                self._put(self._queue.popleft())
            self._putting = False
            self._has_hits.clear()

    def _gather(self) -> None:
        """Let those join the next batch who are asking just now: until the hub runs once and nobody more has come.

        A sync for all of them takes far less of everybody's time than one for the first and one for the rest.
        """
        until_s = time.monotonic() + GATHER_S
        forming, requests = self._queue[0], -1
        while len(self._queue) == 1 and forming.requests != requests and time.monotonic() < until_s:
            requests = forming.requests
            rest()

    def _put(self, forming: Forming) -> None:
        batches, trace = self._batches, self._trace
        if batches.is_used_up:
            forming.release(_used_up())
            return
        job = batches.form(forming.counts, int(time.time() * 1000))
        body = encode(job)
        unknown: SpoolUnknown | None = None
        forming.put_s = began_s = time.monotonic()
        hits = sum(forming.counts.values())
        trip = trace.formed(body, hits, forming.began_s, began_s, ids=forming.ids, pages=forming.pages)
        retry_until_s = began_s + PUT_RETRY_S
        while True:
            try:
                with self._watchdog.expect("a put into the spool"):
                    id = self._spool.put(body, self._config.timing.retry_delay_s)
                break
            except SpoolUnknown as error:
                unknown = error
            except SpoolRefused as error:
                if unknown is None:
                    self._refused_puts += 1
                    batches.refused(job, unknown=False)
                    trace.refused(trip, time.monotonic(), str(error), is_unknown=False)
                    forming.release(error)
                    return
            # It may be there already: putting the same job again is harmless, lanes see to that,
            # and better than to answer hits that may be counted with an error.
            if time.monotonic() > retry_until_s:
                self._refused_puts += 1
                batches.refused(job, unknown=True)
                trace.refused(trip, time.monotonic(), str(unknown), is_unknown=True)
                forming.release(unknown)
                return
            gevent.sleep(PUT_RETRY_PAUSE_S)
        forming.done_s = now_s = time.monotonic()
        self._puts.observe(now_s - began_s)
        flight = batches.spooled(job, id, now_s, only_once=unknown is None)
        flight.trip = trip
        trace.put(trip, id, now_s, is_left=not flight.size_bytes)
        for part in flight.open_parts():
            self._known.added(part)
        forming.release()
        self._send([flight], now_s, "")

    # --- sending -------------------------------------------------------------------------------

    def _send(self, flights: Iterable[Flight], now_s: float, why: str) -> None:
        """Send what is open of these; `why` again, empty the first time."""
        loads: dict[tuple[str, str], list[Addressed]] = defaultdict(list)
        sizes: dict[tuple[str, str], int] = defaultdict(int)
        for flight in flights:
            self._batches.sent(flight, now_s)
            if flight.trip is not None:
                self._trace.sent(flight.trip, now_s, why)
            for part in flight.open_parts():
                owner = self._owners.get(part.partition)
                if owner is None:
                    continue  # nobody: sent at once when somebody takes the partition
                to = (owner[0], flight.worker)
                loads[to].append(Addressed(owner[1], part))
                sizes[to] += sum(map(len, part.counts)) + 16 * len(part.counts)
                if sizes[to] >= SEND_BYTES:
                    self._push(to, loads.pop(to), now_s)
                    del sizes[to]
        for to, parts in loads.items():
            self._push(to, parts, now_s)

    def _push(self, to: tuple[str, str], parts: list[Addressed], now_s: float) -> None:
        if not self._pushes.send(to[0], encode(make(Batch, to[1], self._ack_endpoint, tuple(parts)))):
            self._trace.not_sent(to[0], now_s)  # the spool has it, and it is sent again when its wait ends

    def _on_change(self, view: MeshView) -> None:
        processors = {one.id: one.endpoints["batches"] for one in view.live("processor") if "batches" in one.endpoints}
        for endpoint in processors.values():
            self._pushes.open(endpoint)
        self._pushes.keep_only(set(processors.values()))
        owners = {
            partition: (processors[owner.instance.id], owner.epoch)
            for partition, owner in view.owners().items()
            if owner.instance.id in processors
        }
        for partition, (id, epoch, heard) in list(self._redirects.items()):
            # An owner's own word in its next heartbeat ends it, whatever it was.
            if id not in processors or owners.get(partition, ("", 0))[1] >= epoch or view.heard(id) != heard:
                del self._redirects[partition]
            else:
                owners[partition] = (processors[id], epoch)
        for partition, (_, epoch) in owners.items():
            if epoch > self._epochs.get(partition, 0):
                self._epochs[partition] = epoch
        changed = {partition for partition, owner in owners.items() if self._owners.get(partition) != owner}
        if owners != self._owners:
            self._owners = owners
            self._trace.owners(owners, {endpoint: id for id, endpoint in processors.items()})
        if changed:
            self._send(self._batches.touching(changed), time.monotonic(), "a new owner, or epoch")

    def _redirected(self, redirect: Redirect) -> None:
        assert self.mesh is not None
        heard = self.mesh.view.heard(redirect.owner)
        for partition, epoch in redirect.epochs.items():
            before = self._owners.get(partition, ("", 0))[1]
            if not before:
                continue  # of nobody: the mesh will say whose it is
            if epoch > before + MAX_REDIRECT:
                self._frames.refuse(f"{redirect.owner!a:.140} has epoch {epoch} of partition {partition}, not {before}")
            elif epoch > before:
                self._redirects[partition] = (redirect.owner, epoch, heard)
        self._on_change(self.mesh.view)

    def _resend(self) -> None:
        while True:
            gevent.sleep(TICK_S)
            now_s = time.monotonic()
            if self.mesh is not None:
                self._ages.look(self.mesh.view)
            self._batches.expire_claims(now_s - self._config.timing.claim_s)
            overdue = self._batches.overdue(now_s)[:MAX_RESENT]
            self._resent += len(overdue)
            if overdue and self.mesh is not None:
                self._doubts.want(self.mesh.view, {part.partition for each in overdue for part in each.open_parts()})
            self._send(overdue, now_s, "no ack in time")

    # --- acks ----------------------------------------------------------------------------------

    def _receive_acks(self) -> None:
        while (message := self._frames.receive(Ack, Redirect)) is not None:
            if isinstance(message, Redirect):
                self._redirected(message)
                continue
            for applied in message.applied:
                if self._is_of_owner(applied.partition, self._frames.key):
                    self._settle(message.worker, applied)

    def _is_of_owner(self, partition: int, key: str) -> bool:
        """Whether an ack comes from the processor that our parts go to; a late one of another is made again there."""
        said = split_key(self._owners.get(partition, ("", 0))[0])[1]
        if not key or not said or self._network.keyring is None:
            return True
        keys = self._network.keyring.keys
        return key == said or (keys.owner(key) is not None and keys.owner(key) == keys.owner(said))

    def _settle(self, worker: str, applied: Applied) -> None:
        if not self._batches.expects(worker, applied.partition):
            return  # a late one, or none of ours
        before = self._epochs.get(applied.partition, 0), self._commits.get(applied.partition, 0)
        reason = check_applied(applied, self._config.partitions, *before)
        if not reason and self._batches.goes_too_far(worker, applied):
            # Either nobody else has used the lane's numbers, or they have: the store knows.
            reason = f"an ack of partition {applied.partition} with numbers that were never used"
            page = self._batches.page_of(applied.partition)
            if page is not None:
                self._reader.want(page)
        if reason:
            self._frames.refuse(reason)
        else:
            self._take(worker, applied, self._ages.of(applied.partition))

    def _told(self, reading: Reading, as_of: AsOf) -> None:
        """What the store says of this worker's lane and some pages: the same as an ack."""
        if reading.applied is None:
            self._known.lost(reading.pages)
        else:
            self._take(self.id, reading.applied, as_of, reading.ledger)

    def _take(self, worker: str, applied: Applied, as_of: AsOf, ledger: str = "") -> None:
        if applied.commit > self._commits.get(applied.partition, 0):
            self._commits[applied.partition] = applied.commit
        now_s = time.monotonic()
        settled = self._batches.settle(worker, applied, now_s)
        if settled.jumped_to or settled.in_doubt:
            log.error(
                "somebody else has used numbers of our lane in partition %d: it goes on at %d; %d hits may not be counted",
                applied.partition, settled.jumped_to, settled.in_doubt,
                extra={"fields": {"partition": applied.partition, "seq": settled.jumped_to, "hits": settled.in_doubt}},
            )  # fmt: skip
        for since_s in settled.since_s:
            self._commits_s.observe(now_s - since_s)
        for part in settled.parts:
            self._known.settled(part, applied)
        if worker == self.id:
            self._known.told(applied, now_s, as_of, ledger)
        if settled.done:
            self._done += settled.done
            self._has_done.set()
        if settled.claims:
            self._claimer.progress()

    def _delete(self) -> None:
        while True:
            self._has_done.wait()
            gevent.sleep(DELETE_PAUSE_S)
            self._has_done.clear()
            done = self._done[:MAX_DELETES]
            with self._watchdog.expect("a delete from the spool"):
                self._batches.deleted(self._spool.done(done))
            self._trace.deleted(done, time.monotonic())
            del self._done[: len(done)]
            if self._done:
                self._has_done.set()

    # --- the end -------------------------------------------------------------------------------

    def _close_lanes(self) -> None:
        ends = self._batches.ends({partition: epoch for partition, (_, epoch) in self._owners.items()})
        by_owner: dict[str, list[object]] = defaultdict(list)
        for end in ends:
            by_owner[self._owners[end.partition][0]].append(end)
        for endpoint, lanes in by_owner.items():
            self._pushes.send(endpoint, encode(make(Close, self.id, tuple(lanes))))
        if by_owner:
            gevent.sleep(0.05)  # for ZeroMQ to send them: closing drops what is queued


def _used_up() -> SpoolRefused:
    return SpoolRefused("somebody else has used up this worker's numbers", hint="restart this collector")

"""A spool on one beanstalkd server, through greenstalk.

Owns the connections to that server and the judgement whether it can be trusted. Knows nothing of
batches, nor of a second copy.

What beanstalkd 1.12 does, from its source and from trials, and what follows:
- It is synced when it says INSERTED only with `-b FOLDER -f 0`. `-f` can't be seen from outside:
  whoever starts the server answers for it. Without `-b` it is refused.
- After a write error it goes on without its log and still says INSERTED and DELETED, until it is
  restarted. So each put is proved: `stats-job` names the log file that the job is in, and 0 means
  none. That notices at the very put what another client's command did to the log;
  `binlog-records-written` would show it to the next look only.
- BURIED and INTERNAL_ERROR come once, from the command that hit the error. A job that was BURIED
  is also among the delayed ones: deleting it sent the server into an endless loop that took all
  memory. So it stays; it may be claimed, and the put is unknown.
- OUT_OF_MEMORY on a full disk loses nothing, but each refused job's memory is never given back:
  puts are refused here for a while before the server is asked again.
- Job ids go on where its log ends, but start anew with an empty folder. `stats` has an id that is
  new with each start of the process; a job put before that is compared with what is there now
  before it is deleted.
- A reservation belongs to its connection: claims, and what ends them, use one of their own.
"""

from __future__ import annotations

import contextlib
import math
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

import greenstalk

from hitmesh.config.addresses import host_port_text
from hitmesh.errors import SpoolRefused, SpoolUnknown
from hitmesh.hub.blocking import current_hub, socket_is_cooperative
from hitmesh.protocol.messages import MAX_FRAME_BYTES
from hitmesh.spool import BURIED, CLAIMED, READY, WAITING, Claimed, CopyStats, Held, JobId, given_out, never_given_out
from hitmesh.spool.beanstalk_client import BeanstalkClient

T = TypeVar("T")

REPLY_TIMEOUT_S: Final = 2.0  # a sync on a busy disk takes tenths; a stopped server takes for ever
RETRY_PAUSE_S: Final = 0.25  # after a failure, before the server is asked again
CHECK_AGE_S: Final = 0.25  # for which the answer of a check is good
EARLY_S: Final = 0.5  # by which a delete must precede the end of the delay; clocks are slewed by 0.05% at most
MIN_JOB_BYTES: Final = MAX_FRAME_BYTES  # what `-z` must allow, or the first large batch is refused under load

_STATES: Final = {"delayed": WAITING, "ready": READY, "reserved": CLAIMED, "buried": BURIED}
_NEEDS_RESTART: Final = "see its disk and its messages, then restart it"
_NO_LOG: Final = ("it runs without its log", _NEEDS_RESTART)
_NO_ROOM: Final = ("no room on its disk or in its memory", "make room")
_DRAINS: Final = ("it drains", "restart it")


@dataclass(frozen=True, slots=True)
class _Id:
    number: int
    instance: str  # the server process that gave the number
    digest: int  # hash(body), good within this process, where ids stay
    put_at: tuple[float, float] | None  # monotonic and wall clock before the put; None for a claimed job
    delay_s: float
    claimed_on: object = None  # the connection that holds the reservation

    def __str__(self) -> str:
        return str(self.number)


class _Line:
    """One place for a connection, made when needed and used by one call at a time."""

    def __init__(self) -> None:
        self.turn = threading.Lock()
        self.client: BeanstalkClient | None = None

    def drop(self) -> None:
        client, self.client = self.client, None
        if client is not None:
            client.close()


class BegunPut:
    """A put that is under way on hub callbacks: nobody else puts before it has been ended."""

    __slots__ = ("_spool", "body", "client", "delay_s", "put_at")

    def __init__(self, spool: BeanstalkSpool, client: BeanstalkClient, body: bytes, delay_s: int) -> None:
        self._spool = spool
        self.client = client
        self.body = body
        self.delay_s = delay_s
        self.put_at = _clocks()

    def end(self) -> JobId:
        """Wait for it, as `put` does; to be called once."""
        return self._spool.end_put(self)


def runs_on_hub() -> bool:
    """Whether puts may go on hub callbacks here."""
    return current_hub() is not None and socket_is_cooperative()


class BeanstalkSpool:
    """A Spool on one server; a claimed job belongs to its claimer for `claim_s`."""

    def __init__(self, host: str, port: int, tube: str, *, claim_s: float) -> None:
        self.url = f"beanstalk://{host_port_text(host, port)}/{tube}"
        self._address = (host, port)
        self._tube = tube
        self._ttr_s = max(1, math.ceil(claim_s))  # the protocol has whole seconds
        self._puts, self._deletes, self._claims = _Line(), _Line(), _Line()
        self._looks = _Line()  # check and stats don't wait behind deletes
        self._lost_log = ""  # the instance that runs without its log
        self._pause_until = 0.0  # after a connection failed; monotonic
        self._pause_reason = ""
        self._refuse_until = 0.0  # after a put was refused; monotonic
        self._refuse_reason = ("", "")  # and its hint
        self._checked: tuple[float, SpoolRefused | None] = (-math.inf, None)

    # --- the interface --------------------------------------------------------------------

    def put(self, body: bytes, delay_s: float) -> JobId:
        """Store a job, proved to be in the log; see Spool.put. The delay is rounded up to whole seconds."""
        begun = self.begin_put(body, delay_s)
        if begun is not None:
            return begun.end()
        self._require_no_refusal("put")
        put_at = _clocks()
        delay = math.ceil(delay_s)
        with self._puts.turn:
            client = self._connect(self._puts, "put")
            self._require_log(client, "put")
            number = self._insert(client, len(body), lambda: client.put(body, delay=delay, ttr=self._ttr_s))
            job = _Id(number, client.instance, hash(body), put_at, delay)
            return self._prove(client, job, lambda: client.is_logged(number))

    def begin_put(self, body: bytes, delay_s: float) -> BegunPut | None:
        """Begin it on hub callbacks, where there is a hub and a connection, and nothing speaks against it; see Begins."""
        line = self._puts
        if not runs_on_hub() or not line.turn.acquire(blocking=False):
            return None
        client = line.client
        if client is None or not client.is_alive() or not self._may_put(client):
            line.turn.release()
            return None
        delay = math.ceil(delay_s)
        begun = BegunPut(self, client, body, delay)
        client.put_link.begin(
            b"put %d %d %d %d\r\n%b\r\n" % (greenstalk.DEFAULT_PRIORITY, delay, self._ttr_s, len(body), body)
        )
        return begun

    def _may_put(self, client: BeanstalkClient) -> bool:
        try:
            self._require_no_refusal("put")
            self._require_log(client, "put")
        except SpoolRefused:
            return False  # `put` says why
        return True

    def end_put(self, begun: BegunPut) -> JobId:
        """Wait for it; see BegunPut.end."""
        client, link = begun.client, begun.client.put_link
        try:
            number = self._insert(client, len(begun.body), link.number)
            job = _Id(number, client.instance, hash(begun.body), begun.put_at, begun.delay_s)
            return self._prove(client, job, link.is_logged)
        finally:
            self._puts.turn.release()

    def _insert(self, client: BeanstalkClient, size: int, command: Callable[[], int]) -> int:
        """The number of the job that the server says it has taken. Raises SpoolRefused or SpoolUnknown."""
        try:
            return self._ask(self._puts, command)
        except greenstalk.JobTooBigError as error:
            hint = f"start it with -z {MIN_JOB_BYTES}"
            raise self._refused("put", f"a job of {size} bytes is too big for it", hint) from error
        except (greenstalk.OutOfMemoryError, greenstalk.DrainingError) as error:
            self._refuse_reason = _NO_ROOM if isinstance(error, greenstalk.OutOfMemoryError) else _DRAINS
            self._refuse_until = time.monotonic() + RETRY_PAUSE_S
            raise self._refused("put", *self._refuse_reason) from error
        except (greenstalk.BuriedError, greenstalk.InternalError) as error:
            self._lost(client.instance)
            raise self._unknown("put", "it couldn't write its log", _NEEDS_RESTART) from error
        except (OSError, greenstalk.Error) as error:
            raise self._unknown("put", f"no clear answer: {error!r}") from error

    def _prove(self, client: BeanstalkClient, job: _Id, is_logged: Callable[[], bool]) -> JobId:
        """The job's id, if it is in the server's log. Raises SpoolRefused or SpoolUnknown."""
        try:
            logged = self._ask(self._puts, is_logged)
        except greenstalk.NotFoundError:
            return job  # claimed and done by somebody before the proof: it was counted
        except (OSError, greenstalk.Error) as error:
            raise self._unknown("put", f"it is there, perhaps not on disk: {error!r}") from error
        if logged:
            return job
        self._lost(client.instance)
        raise self._taken_back(client, job)

    def done(self, ids: Sequence[JobId]) -> list[bool]:
        """Delete jobs, each with a sync of the server's; see Spool.done.

        A job put here counts as unclaimed while its delay, by this host's clocks, isn't over: a
        server on another host whose clock is put forward by seconds isn't noticed.
        """
        answers = [False] * len(ids)
        for line in (self._deletes, self._claims):
            mine = [(at, job) for at, job in enumerate(ids) if self._line_of(job) is line]
            if mine:
                with line.turn:
                    self._delete_all(line, mine, answers)
        return answers

    def claim(self, limit: int) -> list[Claimed]:
        """Jobs whose time has come, the oldest first; none where the server doesn't answer."""
        claimed: list[Claimed] = []
        with self._claims.turn:
            try:
                client = self._connect(self._claims, "claim")
                while len(claimed) < limit:
                    claimed.append(self._ask(self._claims, lambda: self._claim_one(client)))
            except (greenstalk.TimedOutError, greenstalk.DeadlineSoonError):
                pass  # none ready; DEADLINE_SOON says so too, when an older claim of ours ends within a second
            except (SpoolRefused, OSError, greenstalk.Error):
                if self._claims.client is None:
                    return []  # with the connection went the reservations
        return claimed

    def _claim_one(self, client: BeanstalkClient) -> Claimed:
        job = client.reserve(timeout=0)
        claims = client.stats_job(job.id)["reserves"]
        return Claimed(_Id(job.id, client.instance, hash(job.body), None, 0, client), job.body, claims)

    def bury(self, id: JobId) -> None:
        """Set a claimed job aside; see Spool.bury. Does nothing when the reservation is gone: it is claimed again.

        Raises SpoolRefused or SpoolUnknown when the server doesn't do it.
        """
        assert isinstance(id, _Id)
        with self._claims.turn:
            client = self._connect(self._claims, "bury")
            if id.claimed_on is not client:
                return
            try:
                self._ask(self._claims, lambda: client.bury(greenstalk.Job(id.number, b"")))
            except greenstalk.NotFoundError:
                return
            except greenstalk.InternalError as error:  # a full disk, or its log is lost: a put will tell
                raise self._unknown("bury", "it couldn't write its log", _NEEDS_RESTART) from error
            except (OSError, greenstalk.Error) as error:
                raise self._unknown("bury", f"no clear answer: {error!r}") from error

    def check(self) -> None:
        """Raise SpoolRefused when a put can't succeed now; asks the server once in CHECK_AGE_S at most."""
        self._require_no_refusal("check")
        checked_at, problem = self._checked
        if time.monotonic() - checked_at > CHECK_AGE_S:
            problem = None
            try:
                with self._looks.turn:
                    self._examine(self._looks)
            except SpoolRefused as error:
                problem = error
            self._checked = (time.monotonic(), problem)
        if problem is not None:
            raise problem

    def stats(self) -> list[CopyStats]:
        """The tube's jobs by state; see Spool.stats."""
        problem: SpoolRefused | None = None
        try:
            self.check()
        except SpoolRefused as error:
            problem = error
        try:
            with self._looks.turn:
                client = self._connect(self._looks, "stats")
                tube = self._ask(self._looks, lambda: client.stats_tube(self._tube))
        except (SpoolRefused, OSError, greenstalk.Error) as error:
            return [CopyStats(self.url, False, str(problem or error), 0, 0, 0, 0)]
        counts = [tube[f"current-jobs-{state}"] for state in ("delayed", "ready", "reserved", "buried")]  # type: ignore[literal-required]
        return [CopyStats(self.url, problem is None, problem.message if problem else "", *counts)]

    def first_bodies(self) -> list[bytes]:
        """Of jobs that are ready, and of those that wait for their delay, the body of the first; they stay as they are.

        Raises SpoolRefused when the server can't be asked.
        """
        bodies = []
        with self._looks.turn:
            client = self._connect(self._looks, "peek")
            for peek in (client.peek_ready, client.peek_delayed):
                try:
                    bodies.append(self._ask(self._looks, peek).body)
                except greenstalk.NotFoundError:
                    continue
                except (OSError, greenstalk.Error) as error:
                    raise self._refused("peek", f"no clear answer: {error!r}") from error
        return bodies

    def held(self, limit: int, *, only_buried: bool = False) -> list[Held]:
        """The first job that is set aside, that is ready, and that waits: the server shows no others; see Copy.held."""
        found = []
        with self._looks.turn:
            client = self._connect(self._looks, "peek")
            peeks = (client.peek_buried, client.peek_ready, client.peek_delayed)[: 1 if only_buried else limit]
            for peek in peeks:
                with self._not_there():
                    found.append(self._held(client, self._ask(self._looks, peek)))
        return sorted(found, key=lambda each: each.number)

    def find(self, number: int) -> Held | None:
        """One job; see Copy.find."""
        with self._looks.turn, self._not_there():
            client = self._connect(self._looks, "peek")
            tube = self._ask(self._looks, lambda: client.stats_job(number))["tube"]
            if tube == self._tube:
                return self._held(client, self._ask(self._looks, lambda: client.peek(number)))
        return None

    def kick(self, number: int) -> bool:
        """Make a job claimable that is set aside or was released; see Copy.kick."""
        held = self.find(number)
        if held is None:
            return False
        if held.state == CLAIMED:
            raise given_out(number, "kick", self.url)
        if held.state == READY:
            return True
        if not held.claims:  # one that is BURIED without having been given out is among the delayed ones, too
            raise never_given_out(number, "kick", self.url)
        with self._looks.turn, self._not_there():
            client = self._connect(self._looks, "kick")
            self._ask(self._looks, lambda: client.kick_job(number))
            return True
        return False

    def delete(self, held: Held) -> bool:
        """Delete a job that was given out before, and isn't now; see Copy.delete.

        One that a failed write of the log has left in memory was never given out: the server would not come back.
        """
        now = self.find(held.number)
        if now is None or now.body != held.body:
            return False
        if now.state == CLAIMED:
            raise given_out(held.number, "delete", self.url)
        if not now.claims:
            raise never_given_out(held.number, "delete", self.url)
        with self._looks.turn, self._not_there():
            client = self._connect(self._looks, "delete")
            before = self._records(self._looks, client)
            self._ask(self._looks, lambda: client.delete(held.number))
            if self._records(self._looks, client) == before:
                self._lost(client.instance)
                raise self._unknown(
                    "delete", f"job {held.number} is back after a restart: {_NO_LOG[0]}", _NEEDS_RESTART
                )
            return True
        return False

    def _held(self, client: BeanstalkClient, job: greenstalk.Job[bytes]) -> Held:
        stats = self._ask(self._looks, lambda: client.stats_job(job.id))
        return Held(job.id, _STATES[stats["state"]], stats["reserves"], job.body)

    @contextlib.contextmanager
    def _not_there(self) -> Iterator[None]:
        """A job that isn't there, or not any more, is nothing; any other trouble is SpoolRefused."""
        try:
            yield
        except greenstalk.NotFoundError:
            return
        except (OSError, greenstalk.Error) as error:
            raise self._refused("ask", f"no clear answer: {error!r}") from error

    def close(self) -> None:
        """Close the connections; a later call opens them again."""
        for line in (self._puts, self._deletes, self._claims, self._looks):
            with line.turn:
                line.drop()

    def _taken_back(self, client: BeanstalkClient, id: _Id) -> SpoolRefused | SpoolUnknown:
        """What became of a job that is only in the server's memory, from where it is deleted."""
        try:
            if self._delete(self._puts, client, id) and _unclaimed_before(id, _clocks()):
                return self._refused("put", *_NO_LOG)
        except (OSError, greenstalk.Error):
            pass
        return self._unknown("put", *_NO_LOG)

    # --- deleting -------------------------------------------------------------------------

    def _line_of(self, id: JobId) -> _Line:
        assert isinstance(id, _Id)
        held = id.claimed_on is not None and id.claimed_on is self._claims.client
        return self._claims if held else self._deletes

    def _delete_all(self, line: _Line, jobs: Sequence[tuple[int, JobId]], answers: list[bool]) -> None:
        """Delete `jobs` and note in `answers` which were certainly unclaimed, and are durably gone."""
        deleted: set[int] = set()
        try:
            client = self._connect(line, "done")
            known = [(at, job) for at, job in jobs if isinstance(job, _Id) and job.instance == client.instance]
            before = None
            if len(known) < len(jobs):  # some were put before it was restarted
                before = self._ask(line, client.records_written)
                deleted |= self._delete_earlier(line, client, jobs)
            first, said, last = self._ask(line, lambda: client.delete_all([job.number for _, job in known]))
            if any(isinstance(error, greenstalk.InternalError) for error in said):
                self._lost(client.instance)
            deleted |= {at for (at, _), error in zip(known, said, strict=True) if error is None}
            # Without its log the server says DELETED too, and the jobs are back after a restart.
            if last - (first if before is None else before) < len(deleted):
                return
        except (SpoolRefused, OSError, greenstalk.Error):
            return
        now = _clocks()
        for at, job in jobs:
            assert isinstance(job, _Id)
            answers[at] = at in deleted and client.instance != self._lost_log and _unclaimed_before(job, now)

    def _delete_earlier(self, line: _Line, client: BeanstalkClient, jobs: Sequence[tuple[int, JobId]]) -> set[int]:
        """Delete those that another process of the server was given; which of them the server says are deleted."""
        earlier = [(at, job) for at, job in jobs if isinstance(job, _Id) and job.instance != client.instance]
        return {at for at, job in earlier if self._delete(line, client, job)}

    def _delete(self, line: _Line, client: BeanstalkClient, id: _Id) -> bool:
        """Whether the server said DELETED. Raises OSError or SpoolRefused when it can't be asked any more."""
        try:
            if id.instance != client.instance:
                # Restarted since. With its log that is the same job; with an empty folder a stranger's.
                there = self._ask(line, lambda: client.peek(id.number))
                if hash(there.body) != id.digest:
                    return False
            self._ask(line, lambda: client.delete(id.number))
        except greenstalk.NotFoundError:
            return False  # gone, or claimed by somebody whose claim isn't over
        except greenstalk.InternalError:
            self._lost(client.instance)
            return False
        return True

    def _records(self, line: _Line, client: BeanstalkClient) -> int:
        return self._ask(line, client.records_written)

    # --- the server -----------------------------------------------------------------------

    def _connect(self, line: _Line, op: str) -> BeanstalkClient:
        """The line's connection, made when there is none. Raises SpoolRefused; nothing has been sent then."""
        if line.client is not None:
            if line.client.is_alive():
                return line.client
            line.drop()
        started = time.monotonic()
        if started < self._pause_until:
            raise self._refused(op, self._pause_reason)
        try:
            sock = socket.create_connection(self._address, timeout=REPLY_TIMEOUT_S)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            client = BeanstalkClient(sock, self._tube)
        except (OSError, greenstalk.Error, ValueError, AssertionError, KeyError) as error:
            self._pause(started, f"no connection: {error}")
            raise self._refused(op, self._pause_reason) from error
        line.client = client
        return client

    def _ask(self, line: _Line, command: Callable[[], T]) -> T:
        """One command on the line's connection, which is dropped unless a whole reply has been read."""
        started = time.monotonic()
        try:
            return command()
        except greenstalk.BeanstalkdError:
            raise
        except BaseException as error:
            line.drop()
            if isinstance(error, TimeoutError):
                self._pause(started, "no answer in time")
            if isinstance(error, (ValueError, AssertionError, KeyError)):  # greenstalk's, for half a reply
                raise ConnectionError(f"not a reply: {error!r}") from error
            raise

    def _examine(self, line: _Line) -> None:
        client = self._connect(line, "check")
        self._require_log(client, "check")
        try:
            stats = self._ask(line, client.stats)
        except (OSError, greenstalk.Error) as error:
            raise self._refused("check", f"no clear answer: {error!r}") from error
        if stats["draining"] == "true":
            raise self._refused("check", *_DRAINS)

    def _require_no_refusal(self, op: str) -> None:
        if time.monotonic() < self._refuse_until:
            raise self._refused(op, *self._refuse_reason)

    def _require_log(self, client: BeanstalkClient, op: str) -> None:
        if not client.has_log:
            raise self._refused(op, "it keeps no log on disk", "start it with -b FOLDER -f 0")
        if client.instance == self._lost_log:
            raise self._refused(op, *_NO_LOG)
        if client.max_job_bytes < MIN_JOB_BYTES:
            reason = f"it takes jobs of {client.max_job_bytes} bytes at most"
            raise self._refused(op, reason, f"start it with -z {MIN_JOB_BYTES} or more")

    def _lost(self, instance: str) -> None:
        self._lost_log = instance
        self._checked = (-math.inf, None)

    def _pause(self, started: float, reason: str) -> None:
        # A failure that took long is followed by a pause as long: half of the time is left for others.
        now = time.monotonic()
        self._pause_until = now + max(RETRY_PAUSE_S, now - started)
        self._pause_reason = reason

    def _refused(self, op: str, reason: str, hint: str = "") -> SpoolRefused:
        return SpoolRefused(reason, op=op, endpoint=self.url, hint=hint)

    def _unknown(self, op: str, reason: str, hint: str = "") -> SpoolUnknown:
        return SpoolUnknown(reason, op=op, endpoint=self.url, hint=hint)


def _clocks() -> tuple[float, float]:
    """Monotonic and wall clock: a wall clock that was put forward here is noticed by the second."""
    return time.monotonic(), time.time()


def _unclaimed_before(id: _Id, now: tuple[float, float]) -> bool:
    """Whether the delay of a job put here hadn't ended by `now`, so that nobody has claimed it."""
    if id.put_at is None:
        return False
    age_s = max(now[0] - id.put_at[0], now[1] - id.put_at[1])
    return age_s < id.delay_s - EARLY_S

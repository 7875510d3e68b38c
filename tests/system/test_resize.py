"""A running mesh that grows and shrinks under load: who is new takes its share, who is gone is replaced.

The promises are of the design: a newcomer works within 2 s of its first heartbeat, and the others have
taken over within 4 s of a kill. How long it takes depends on what else the machine does: so that it happens
is asserted, and how long it took is printed (`pytest -rP`). Where something must not wait for a silence to be
noticed, that takes far longer than the test waits. Counts are exact at the end of each test.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from hitmesh.errors import MeshError
from hitmesh.protocol.messages import Head, Instance
from hitmesh.protocol.pages import partition_of
from hitmesh.state.ownership import rendezvous
from hitmesh.store.open import open_store
from hitmesh.store.totals import decode_head
from tests.services import wait_for
from tests.system.mesh import Process
from tests.system.user import DC, PATIENCE_S, PATIENT, STOPPED_S, User, answer_to, hit_all, mesh
from tests.system.visitors import Visitor, accepted, at_work

ZOMBIE_S = 8.0  # twice what it takes to be replaced; a claim is due after 5
TOLD_S = 30.0  # for what isn't to wait until a silence is noticed: half of what that takes with PATIENT
PAGES = 64  # enough for every partition of 32 to have some, or nearly


@pytest.fixture(scope="module")
def user(tmp_path_factory: pytest.TempPathFactory) -> Iterator[User]:
    """Two of each role, none of which is called dead for its silence; at last its books balance."""
    # A job that waits for its commit on a busy machine isn't claimed either: its collector is sure that it is gone.
    with mesh(tmp_path_factory.mktemp("resize"), timing={**PATIENT, "retry_delay_s": 60.0}) as user:
        yield user
        user.assert_balanced()


@pytest.fixture(scope="module")
def mortal(tmp_path_factory: pytest.TempPathFactory) -> Iterator[User]:
    """Two of each role that are soon called dead: after four seconds of silence, which are eight heartbeats."""
    timing = {**PATIENT, "heartbeat_s": 0.5, "missed_heartbeats": 8}
    with mesh(tmp_path_factory.mktemp("mortal"), timing=timing) as user:
        yield user
        user.assert_balanced()


def pages_of(site: str) -> list[str]:
    return [f"{site}/{number}" for number in range(PAGES)]


@contextlib.contextmanager
def hits(user: User, site: str) -> Iterator[tuple[Visitor, ...]]:
    """Load on both configured collectors, and at the end a mesh that has counted it exactly."""
    visitors = [Visitor(url, pages_of(site)) for url in user.collectors()]
    with at_work(*visitors):
        time.sleep(0.3)
        yield tuple(visitors)
        time.sleep(0.3)
    assert not any(visitor.failed or visitor.refused for visitor in visitors)
    user.wait_until_settled()
    assert user.committed(f"{site}/") == accepted(*visitors)


def seconds_until(condition: Callable[[], object], what: str) -> float:
    began = time.monotonic()
    wait_for(condition, within_s=PATIENCE_S, what=what)
    return time.monotonic() - began


def told(what: str, seconds: float) -> None:
    print(f"measured: {what}: {seconds:.2f} s")


def shares(user: User, names: Sequence[str]) -> dict[int, str]:
    """What each of these processors should own."""
    return {partition: rendezvous(partition, names) for partition in range(user.config.partitions)}


def instance(user: User, name: str) -> Instance:
    """As a Nexus knows it, as soon as one calls it alive."""
    return wait_for(lambda: user.living().get(name), within_s=PATIENCE_S, what=f"{name} to be alive")  # type: ignore[return-value]


def wait_for_heartbeat(user: User, name: str, since: float) -> None:
    """Wait until a Nexus knows `name`, started at `since`."""
    instance(user, name)
    told(f"{name}: process started to first heartbeat", time.monotonic() - since)


def step_downs(user: User, names: Sequence[str]) -> dict[str, float]:
    """How often each of these processors that live was fenced, by its last heartbeat."""
    return {name: one.load["step_downs"] for name, one in user.living().items() if name in names}


class Pause(threading.Thread):
    """Watches the commits of one partition; knows the longest time without a counted hit."""

    def __init__(self, user: User, page: str) -> None:
        super().__init__(daemon=True)
        self.longest_s = 0.0
        self._config = user.config
        self._base = user.folder / DC
        self._partition = partition_of(page, self._config.partitions)
        self._ending = threading.Event()

    def run(self) -> None:
        with contextlib.closing(open_store(self._config, self._base)) as store:

            def head() -> Head:
                stored = store.read_head(self._partition)
                assert stored is not None
                return decode_head(self._partition, stored)

            hits, since = head().hits, time.monotonic()
            while not self._ending.wait(0.02):
                if (now := head().hits) != hits:
                    hits, since = now, time.monotonic()
                self.longest_s = max(self.longest_s, time.monotonic() - since)

    def __enter__(self) -> Pause:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ending.set()
        self.join()


# --- more ------------------------------------------------------------------------------------


def test_a_hand_over_under_load_fences_nobody(user: User) -> None:
    """What is staged is committed by who staged it, before anybody else tries to take the partition."""
    names = ["processor-1", "processor-2", "processor-3"]
    # A long wait for the commit is a long time in which somebody else could come too early.
    until_in_force(user, "set", "timing.commit_s", "1.0")
    try:
        with hits(user, "hand-over"):
            wait_for(lambda: are_in_office(user, names[:2], "hand-over"), within_s=PATIENCE_S, what="the start's end")
            fenced = step_downs(user, names)
            with user.by_hand("processor", "processor-3") as process:
                wait_for(lambda: user.owned() == shares(user, names), within_s=PATIENCE_S, what="the new share")
                process.signal(signal.SIGTERM)
                assert process.wait(STOPPED_S) == 0
                wait_for(lambda: user.owned() == shares(user, names[:2]), within_s=PATIENCE_S, what="its return")
            time.sleep(2 * user.config.timing.heartbeat_s)
            assert step_downs(user, names) == fenced
    finally:
        until_in_force(user, "unset", "timing.commit_s")


def until_in_force(user: User, *words: str) -> None:
    """Change a live setting; a command waits for 5 s only until it is in force everywhere."""
    wait_for(lambda: user.run("config", *words).returncode == 0, within_s=PATIENCE_S, what="a setting in force")


def are_in_office(user: User, names: Sequence[str], site: str) -> bool:
    """Whether each partition with a page of `site` is its rendezvous choice's, who has committed there.

    Those that start together may both take what nobody claims yet. Who is fenced then notices with the next commit.
    """
    wanted, heads, living = shares(user, names), user.heads(), user.living()
    return all(
        living[wanted[at]].owns.get(at) == heads[at].epoch
        and heads[at].owner == living[wanted[at]].id
        and heads[at].hits
        for at in {partition_of(page, user.config.partitions) for page in pages_of(site)}
    )


def test_one_more_of_each_by_hand_joins_works_and_leaves_without_a_file_edited_or_a_trace(user: User) -> None:
    names = ["processor-1", "processor-2", "processor-9"]
    everybody, files, fenced = set(user.living()), configuration(user), step_downs(user, names)
    with hits(user, "by-hand") as visitors:
        with (
            user.by_hand("processor", "processor-9") as processor,
            user.by_hand("collector", "collector-9") as collector,
        ):
            wait_for(
                lambda: {"processor-9", "collector-9"} <= set(user.living()),
                within_s=PATIENCE_S,
                what="both heartbeats",
            )
            took_s = seconds_until(lambda: user.owned() == shares(user, names), "the new share")
            told("one more of each: both first heartbeats to the share", took_s)
            share = [partition for partition, name in user.owned().items() if name == "processor-9"]
            before = {partition: user.heads()[partition].hits for partition in share}
            wait_for(
                lambda: any(user.heads()[partition].hits > before[partition] for partition in share),
                within_s=PATIENCE_S,
                what="commits of the new owner",
            )
            worker = instance(user, "collector-9")
            assert worker.endpoints["http"] in user.ask("endpoints")[DC]["collector"]
            with at_work(Visitor(worker.endpoints["http"], pages_of("by-hand"))) as (visitor,):
                wait_for(lambda: accepted(visitor).total() > PAGES, within_s=2 * PATIENCE_S, what="hits on it")
            assert not visitor.failed
            own = accepted(visitor)
            wait_for(
                lambda: any(worker.id in head.lanes for head in user.heads().values()),
                within_s=PATIENCE_S,
                what="its lanes",
            )
            collector.signal(signal.SIGTERM)
            assert collector.wait(STOPPED_S) == 0
            wait_for(lambda: "collector-9" not in user.living(), within_s=TOLD_S, what="its goodbye to be heard")
            # By each owner's next commit: by processor-9's too, before it goes.
            wait_for(
                lambda: not any(worker.id in head.lanes for head in user.heads().values()),
                within_s=2 * PATIENCE_S,
                what="its lanes to be closed",
            )
            processor.signal(signal.SIGTERM)
            assert processor.wait(STOPPED_S) == 0
            wait_for(lambda: user.owned() == shares(user, names[:2]), within_s=PATIENCE_S, what="its return")
        wait_for(lambda: set(user.living()) == everybody, within_s=TOLD_S, what="everybody's goodbye to be heard")
        for visitor in visitors:
            visitor.accepted += own if visitor is visitors[0] else Counter()
        assert step_downs(user, names) == fenced
    assert configuration(user) == files


def configuration(user: User) -> dict[Path, str]:
    """Every file in the state folder that a person would edit."""
    found = [path for pattern in ("**/*.toml", "**/*.conf", "**/*.json") for path in user.folder.glob(pattern)]
    assert len(found) >= 2
    return {path: path.read_text() for path in found}


# --- fewer -----------------------------------------------------------------------------------


def run_until_gone(user: User, number: int, page: str, *, within_s: float) -> str:
    """Start processor-3, end it by a signal, and wait until the others own and count all again; the id that it had."""
    wanted = shares(user, ["processor-1", "processor-2", "processor-3"])
    partition = partition_of(page, user.config.partitions)
    with user.by_hand("processor", "processor-3") as process, Pause(user, page) as pause:
        wait_for(lambda: user.owned() == wanted, within_s=PATIENCE_S, what="processor-3's share")
        old = instance(user, "processor-3").id
        wait_for(lambda: user.heads()[partition].owner == old, within_s=PATIENCE_S, what="processor-3's page")
        time.sleep(0.5)
        pause.longest_s = 0.0
        began = time.monotonic()
        process.signal(number)
        wait_for(
            lambda: (
                set(user.owned().values()) == {"processor-1", "processor-2"}
                and len(user.owned()) == len(wanted)
                and user.heads()[partition].owner != old
            ),
            within_s=within_s,
            what="the others to own all",
        )
        name = signal.Signals(number).name
        told(f"{name} of a processor: until all its partitions are owned again", time.monotonic() - began)
        before = user.heads()[partition].hits
        wait_for(lambda: user.heads()[partition].hits > before, within_s=PATIENCE_S, what="a commit of the new owner")
    told(f"{name} of a processor: longest pause in counting", pause.longest_s)
    return old


def page_of_the_third(user: User) -> str:
    """A page that processor-3 owns, as soon as there is one."""
    wanted = shares(user, ["processor-1", "processor-2", "processor-3"])
    return next(page for page in pages_of("fewer") if wanted[partition_of(page, len(wanted))] == "processor-3")


@contextlib.contextmanager
def hits_more_often_on(user: User, page: str) -> Iterator[None]:
    """Load on all pages, and on one of them more often than on the others: a pause is that of counting, not of its turn."""
    often = Visitor(user.collectors()[0], [page])
    with hits(user, "fewer-of-all"), at_work(often):
        yield
    user.wait_until_settled()
    assert user.committed(page) == often.accepted


def test_a_killed_processor_is_replaced(mortal: User) -> None:
    page = page_of_the_third(mortal)
    with hits_more_often_on(mortal, page):
        killed = run_until_gone(mortal, signal.SIGKILL, page, within_s=PATIENCE_S)
        assert killed in mortal.dead()


def test_a_processor_that_is_told_to_stop_is_replaced_before_its_silence_is_noticed(user: User) -> None:
    page = page_of_the_third(user)
    timing = user.config.timing
    assert timing.heartbeat_s * timing.missed_heartbeats >= 2 * TOLD_S
    with hits_more_often_on(user, page):
        stopped = run_until_gone(user, signal.SIGTERM, page, within_s=TOLD_S)
        assert stopped not in user.dead()


# --- nobody who knows where everybody is -----------------------------------------------------


def test_without_a_nexus_traffic_goes_on_and_a_new_one_knows_everybody(mortal: User) -> None:
    nexuses = [f"{DC}-nexus-1", f"{DC}-nexus-2"]
    everybody = set(mortal.living())
    with hits(mortal, "no-nexus") as visitors:
        mortal.supervisorctl("stop", *nexuses)
        try:
            with pytest.raises(MeshError, match="no Nexus answers"):
                mortal.seen(within_s=0.5)
            timing = mortal.config.timing
            time.sleep(timing.heartbeat_s * (timing.missed_heartbeats + 0.5))  # silence means death by now
            before = accepted(*visitors).total()
            wait_for(lambda: accepted(*visitors).total() > before, within_s=PATIENCE_S, what="more hits")
            for _ in range(2):  # what was sent before may have been committed a moment ago
                hits_before = committed_hits(mortal)
                wait_for(
                    lambda before=hits_before: committed_hits(mortal) > before,  # type: ignore[misc]
                    within_s=PATIENCE_S,
                    what="commits",
                )
        finally:
            mortal.supervisorctl("start", *nexuses)  # returns after they have been up for a second
        wait_for(mortal.living, within_s=PATIENCE_S, what="a Nexus to answer")
        took_s = seconds_until(
            lambda: set(mortal.living()) == everybody and len(mortal.owned()) == mortal.config.partitions,
            "everybody to be known",
        )
        told("new Nexuses: from the first answer until everybody is known", took_s)


def committed_hits(user: User) -> int:
    return sum(head.hits for head in user.heads().values())


# --- the dead who walk -----------------------------------------------------------------------


def test_an_owner_that_was_stopped_and_replaced_is_fenced(mortal: User) -> None:
    wanted = shares(mortal, ["processor-1", "processor-2", "processor-3"])
    with hits(mortal, "zombie-owner"), mortal.by_hand("processor", "processor-3") as process:
        wait_for(lambda: mortal.owned() == wanted, within_s=PATIENCE_S, what="processor-3's share")
        time.sleep(0.5)
        before = instance(mortal, "processor-3").load["step_downs"]
        process.signal(signal.SIGSTOP)
        stopped = time.monotonic()
        wait_for(
            lambda: "processor-3" not in mortal.owned().values(), within_s=PATIENCE_S, what="its death to be noticed"
        )
        wait_for(lambda: len(mortal.owned()) == len(wanted), within_s=PATIENCE_S, what="new owners")
        told("SIGSTOP of a processor: until all its partitions are owned again", time.monotonic() - stopped)
        time.sleep(max(0.0, stopped + ZOMBIE_S - time.monotonic()))
        process.signal(signal.SIGCONT)  # with batches in its socket for partitions that it thinks it owns
        wait_for(
            lambda: any(count > before for count in step_downs(mortal, ["processor-3"]).values()),
            within_s=PATIENCE_S,
            what="it to be fenced",
        )
        wait_for(lambda: mortal.owned() == wanted, within_s=PATIENCE_S, what="its share to be given back")


def stop_processors(user: User, number: int) -> None:
    for name, one in user.living().items():
        if name.startswith("processor"):
            os.kill(one.pid, number)


def zombie_collector(user: User, process: Process, pages: Sequence[str]) -> Counter[str]:
    """Accept a hit on each page, and stop before any of them can be acked; the pages of its jobs in the spool."""
    zombie = instance(user, "collector-3")
    url = zombie.endpoints["http"]
    answer_to(url, "GET", "/health")
    stop_processors(user, signal.SIGSTOP)
    try:
        hit_all(url, pages)
        process.signal(signal.SIGSTOP)
        return Counter(
            page for job in user.jobs() if job.worker == zombie.id for part in job.parts for page in part.counts
        )
    finally:
        stop_processors(user, signal.SIGCONT)


def test_a_collector_that_wakes_after_others_have_claimed_its_jobs_doubles_nothing(mortal: User) -> None:
    pages = pages_of("zombie-collector")
    with hits(mortal, "beside-a-zombie"), mortal.by_hand("collector", "collector-3") as process:
        worker = instance(mortal, "collector-3").id
        assert zombie_collector(mortal, process, pages) == Counter(pages)
        stopped = time.monotonic()
        wait_for(
            lambda: not any(job.worker == worker for job in mortal.jobs()),
            within_s=PATIENCE_S,
            what="claims of its jobs",
        )
        told("jobs of a stopped collector: until others have seen them committed", time.monotonic() - stopped)
        assert mortal.committed("zombie-collector/") == Counter(pages)
        time.sleep(max(0.0, stopped + ZOMBIE_S - time.monotonic()))
        process.signal(signal.SIGCONT)  # with acks in its socket, resends due, and deletes of jobs that are gone
        hit_all(instance(mortal, "collector-3").endpoints["http"], pages)
        wait_for(
            lambda: mortal.committed("zombie-collector/") == Counter(pages + pages),
            within_s=PATIENCE_S,
            what="exact counts after its return",
        )
        time.sleep(mortal.config.timing.resend_s * 2)
        assert mortal.committed("zombie-collector/") == Counter(pages + pages)
        process.signal(signal.SIGTERM)
        assert process.wait(STOPPED_S) == 0

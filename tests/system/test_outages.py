"""What a mesh leans on goes away and comes back: its totals store, its spools, all of it at once.

And what `hitmesh audit` says when somebody has put his hands into the stores.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import shutil
import signal
import sqlite3
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import pytest

from hitmesh.cli.processes import strays
from tests.services import require, wait_for
from tests.system.user import DC, PATIENCE_S, PATIENT, User, answer_to, hit_all, kill_all, mesh, up_again
from tests.system.visitors import Age, Visitor, accepted, at_work

OUTAGE_S = 9.0  # longer than everything that gives up: a write (5 s), a put (5 s), a claim (4 s here)
UNDER_WAY_S = 5.0  # that an answer of the store may be under way before it is told of
ROUNDED_S = 0.1  # an age's last digit
# Heartbeats often, because an audit takes two, and claims that are given up soon.
TIMING = {**PATIENT, "heartbeat_s": 0.5, "claim_s": 4.0}


def pages_of(site: str, count: int = 24) -> list[str]:
    return [f"{site}/{number}" for number in range(count)]


def visitors_of(user: User, site: str) -> list[Visitor]:
    return [Visitor(url, pages_of(site)) for url in user.collectors()]


def is_well(url: str) -> bool:
    return answer_to(url, "GET", "/health")[0] == http.client.OK


def is_unwell(url: str) -> bool:
    return not is_well(url)


# --- on Consul and a pair of beanstalkd, as `up` starts them ---------------------------------


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Iterator[User]:
    require("consul")
    require("beanstalkd")
    with mesh(tmp_path_factory.mktemp("real"), "--consul", "--beanstalkd", timing=TIMING) as user:
        yield user


def test_up_starts_beanstalkd_so_that_every_job_is_synced(real: User) -> None:
    for name in ("beanstalkd-1", "beanstalkd-2"):
        words = Path(f"/proc/{real.pid(name)}/cmdline").read_bytes().split(b"\0")
        assert words[words.index(b"-f") + 1] == b"0"
        assert Path(os.fsdecode(words[words.index(b"-b") + 1])).is_dir()


def test_hits_are_kept_while_the_totals_store_is_gone_and_counted_when_it_is_back(real: User) -> None:
    visitors = visitors_of(real, "no-store")
    consul = real.pid("consul-1")

    def wait_for_more(than: tuple[int, int]) -> tuple[int, int]:
        """Hits accepted and jobs spooled, when there are more of both."""
        wait_for(lambda: accepted(*visitors).total() > than[0], within_s=PATIENCE_S, what="more hits")
        wait_for(lambda: real.spooled() > than[1], within_s=PATIENCE_S, what="more jobs")
        return accepted(*visitors).total(), real.spooled()

    with at_work(*visitors):
        # Every page's total is known to both collectors before, or there would be no age to tell.
        wait_for(
            lambda: all(set(v.least) == set(v.pages) for v in visitors),
            within_s=PATIENCE_S,
            what="a total of each page",
        )
        os.kill(consul, signal.SIGSTOP)
        gone = time.monotonic()
        try:
            kept = accepted(*visitors).total(), 0
            for _ in range(3):
                time.sleep(OUTAGE_S / 3)
                kept = wait_for_more(kept)
            wait_for(
                lambda: any(each.asked > gone + UNDER_WAY_S for visitor in visitors for each in visitor.ages),
                within_s=PATIENCE_S,
                what="somebody to be told of it",
            )
        finally:
            back = time.monotonic()
            os.kill(consul, signal.SIGCONT)
        wait_for(lambda: accepted(*visitors).total() > kept[0], within_s=PATIENCE_S, what="hits afterwards")
        time.sleep(1.0)
    assert not any(visitor.failed or visitor.refused for visitor in visitors)
    for visitor in visitors:
        for page in visitor.pages:
            assert_aged([each for each in visitor.ages if each.page == page], gone, back)
    real.wait_until_settled()
    print(f"measured: the store back to an empty spool: {time.monotonic() - back:.1f} s, {kept[1]} jobs")
    assert real.committed("no-store/") == accepted(*visitors)
    assert real.assert_balanced()["orphan_jobs"] == 0


def assert_aged(ages: Sequence[Age], gone: float, back: float) -> None:
    """A page's total was called just as old as it was while nobody could read it."""
    before = [each for each in ages if each.answered < gone]
    known = before[-1].asked - before[-1].age_s  # at the earliest
    without = [each for each in ages if each.asked > gone + UNDER_WAY_S and each.answered < back]
    assert [each.age_s for each in without] == sorted(each.age_s for each in without), "it became younger"
    for each in without:
        assert each.asked - gone - UNDER_WAY_S - ROUNDED_S < each.age_s < each.answered - known + ROUNDED_S, each


def test_a_pair_of_spools_goes_on_with_one_and_refuses_without_any(real: User) -> None:
    site = "pair"
    (first, second) = (f"{DC}-beanstalkd-{number}" for number in (1, 2))
    visitors = visitors_of(real, site)
    try:
        with at_work(*visitors):
            wait_for(lambda: accepted(*visitors).total() > 20, within_s=PATIENCE_S, what="the first hits")
            real.supervisorctl("stop", first)
            before = accepted(*visitors).total()
            wait_for(lambda: accepted(*visitors).total() > before + 20, within_s=PATIENCE_S, what="hits on one spool")
        real.supervisorctl("stop", second)
        for url in real.collectors():
            wait_for(partial(is_unwell, url), within_s=PATIENCE_S, what="/health to notice")
            status, answer = answer_to(url, "POST", f"/hit/{site}/refused")
            assert (status, answer["title"]) == (http.client.SERVICE_UNAVAILABLE, "Not counted")
    finally:
        real.supervisorctl("start", first, second)
    for url in real.collectors():
        wait_for(partial(is_well, url), within_s=PATIENCE_S, what="/health to recover")
        hit_all(url, [f"{site}/back"])
    real.wait_until_settled()
    assert not any(visitor.failed or visitor.refused for visitor in visitors)
    back = Counter({f"{site}/back": len(real.collectors())})
    assert real.committed(f"{site}/") == accepted(*visitors) + back
    real.assert_balanced()


# --- all of it at once -----------------------------------------------------------------------


@pytest.fixture(scope="module")
def embedded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[User]:
    with mesh(tmp_path_factory.mktemp("embedded"), timing=TIMING) as user:
        yield user


def signal_processors(user: User, number: int) -> None:
    for name, one in user.living().items():
        if name.startswith("processor"):
            os.kill(one.pid, number)


def test_totals_are_the_same_after_a_full_restart(embedded: User) -> None:
    user = embedded
    visitors = visitors_of(user, "restart")
    with at_work(*visitors):
        time.sleep(1.0)
    stopped = user.run("down")  # drains what the visitors have just left
    assert stopped.returncode == 0, stopped.stderr
    assert "didn't stop by themselves" not in stopped.stderr
    down = user.totals()
    assert {page: total for page, total in down.items() if page.startswith("restart/")} == accepted(*visitors)
    up_again(user)
    assert user.totals() == down
    for url in user.collectors():
        status, answer = answer_to(url, "POST", "/hit/restart/0")
        assert (status, answer["total"]) == (http.client.OK, down["restart/0"] + 1)
        down["restart/0"] += 1
        user.wait_until_settled()
    user.assert_balanced()


def test_what_was_accepted_before_everything_is_killed_is_counted_by_the_next_mesh(embedded: User) -> None:
    user, pages = embedded, pages_of("all-killed")
    hit_all(user.collectors()[0], pages)
    user.wait_until_settled()
    signal_processors(user, signal.SIGSTOP)  # so that nothing more is committed
    for url in user.collectors():
        hit_all(url, pages)
    kill_all(user.processes())
    assert strays(user.folder) == []
    assert user.committed("all-killed/") == Counter(pages)
    audit = user.assert_balanced()
    assert audit["spooled"] == 2 * len(pages)
    up_again(user)
    user.wait_until_settled()
    assert user.committed("all-killed/") == Counter(pages * 3)
    user.assert_balanced()


# --- somebody's hands in the stores ----------------------------------------------------------


def problems(user: User) -> list[str]:
    """Why the books don't balance; the command has to fail for it."""
    answer = user.run("audit")
    assert answer.returncode == 1, answer.stdout
    assert "NOT BALANCED" in answer.stdout
    assert "the books don't balance" in answer.stderr
    return [line.strip() for line in answer.stdout.splitlines()[1:]]


@pytest.fixture
def stopped_copy(embedded: User, tmp_path: Path) -> User:
    """What the mesh has on disk, copied while it counts nothing; balanced."""
    hit_all(embedded.collectors()[0], pages_of("by-hand"))
    embedded.wait_until_settled()
    copy = User(tmp_path / "copy")
    shutil.copytree(embedded.folder / DC, copy.folder / DC)
    copy.assert_balanced()
    return copy


def by_hand(path: Path, statement: str) -> int:
    """Change a database behind everybody's back; how many rows that touched."""
    with contextlib.closing(sqlite3.connect(path, timeout=PATIENCE_S)) as database, database:
        return database.execute(statement).rowcount


@pytest.mark.parametrize(
    ("statement", "why"),
    [
        ("DELETE FROM rows WHERE page = 'by-hand/7'", "its rows sum to"),
        ("UPDATE rows SET count = count + 1 WHERE page = 'by-hand/7'", "its rows sum to"),
        (
            "DELETE FROM heads WHERE partition = (SELECT partition FROM rows WHERE page = 'by-hand/7')",
            "its head says 0",
        ),
    ],
    ids=["a-row-deleted", "a-row-changed", "a-head-deleted"],
)
def test_audit_names_the_partition_that_somebody_has_touched(stopped_copy: User, statement: str, why: str) -> None:
    path = stopped_copy.folder / DC / "totals.db"
    with contextlib.closing(sqlite3.connect(path, timeout=PATIENCE_S)) as database:
        ((partition,),) = database.execute("SELECT partition FROM rows WHERE page = 'by-hand/7'").fetchall()
    assert by_hand(path, statement) == 1
    (problem,) = problems(stopped_copy)
    assert problem.startswith(f"partition {partition}: ")
    assert why in problem


def test_audit_tells_of_a_row_deleted_under_a_running_mesh(embedded: User) -> None:
    user, page = embedded, "under-way/page"
    hit_all(user.collectors()[0], [page] * 3)
    user.wait_until_settled()
    path = user.folder / DC / "totals.db"
    with contextlib.closing(sqlite3.connect(path, timeout=PATIENCE_S)) as database:
        (row,) = database.execute("SELECT * FROM rows WHERE page = ?", (page,)).fetchall()
    assert by_hand(path, f"DELETE FROM rows WHERE page = '{page}'") == 1
    try:
        (problem,) = problems(user)
        assert problem.startswith(f"partition {row[0]}: its rows sum to")
    finally:
        by_hand(path, f"INSERT INTO rows VALUES {row}")
    user.assert_balanced()


def test_audit_tells_of_a_spooled_job_deleted_before_its_commit(embedded: User) -> None:
    user, page = embedded, "deleted-job/page"
    processors = [f"{DC}-processor-{number}" for number in (1, 2)]
    user.wait_until_settled()
    user.supervisorctl("stop", *processors)
    try:
        hit_all(user.collectors()[0], [page])
        assert user.assert_balanced()["in_flight"] == 1
        assert by_hand(user.folder / DC / "spool.db", "DELETE FROM jobs") == 1
        (problem,) = problems(user)
        assert problem.startswith("collector-1: it accepted ")
        assert problem.endswith(": 1 are lost")
    finally:
        user.supervisorctl("start", *processors)
    # Its collector still has it in memory, and sends it again.
    wait_for(lambda: user.committed(page) == {page: 1}, within_s=PATIENCE_S, what="the commit")
    user.assert_balanced()

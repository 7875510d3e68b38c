"""Operators' hands on a running mesh: instances that are drained, weighed and undrained under load.

One mesh is shared by the module, and its books balance at the end. Whatever is done to it, no request fails.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterator

import pytest

from hitmesh.state.standing import DRAINED
from tests.services import wait_for
from tests.system.user import DC, HITMESH, PATIENCE_S, PATIENT, User, mesh
from tests.system.visitors import Visitor, accepted, at_work

CLIENTS = 3
SPOOLS = ["sqlite:///spool-1.db", "sqlite:///spool-2.db"]


@pytest.fixture(scope="module")
def user(tmp_path_factory: pytest.TempPathFactory) -> Iterator[User]:
    """Two collectors and processors behind a balancer; nobody is called dead for being slow."""
    # A job is ready 2 s after its put, so that there is something to move while nobody acks.
    timing = {**PATIENT, "heartbeat_s": 0.5, "retry_delay_s": 2.0, "claim_s": 4.0}
    with mesh(tmp_path_factory.mktemp("hands"), timing=timing, stores={"spools": SPOOLS}, nexus=1, balancer=1) as user:
        yield user
        user.assert_balanced()


class Passer(Visitor):
    """A visitor whose hits go to either collector: the totals of one lag those of the other."""

    def saw(self, page: str, total: int | None, *, more: int = 0) -> None:
        """Nothing follows from it."""


@contextlib.contextmanager
def hits(user: User, site: str) -> Iterator[list[Passer]]:
    """Load on the balancer, of which nothing fails, and all of which is counted at the end."""
    [place] = user.config.instances("balancer")
    pages = [f"{site}/{number}" for number in range(64)]
    visitors = [Passer(f"http://{place.address}:{place.port}", pages[at::CLIENTS]) for at in range(CLIENTS)]
    with at_work(*visitors):
        more_hits(visitors)
        yield visitors
        more_hits(visitors)
    assert not any(visitor.failed or visitor.refused for visitor in visitors)
    user.wait_until_settled()
    assert user.committed(f"{site}/") == accepted(*visitors)


def more_hits(visitors: list[Passer], count: int = 20) -> None:
    """Wait until so many more have been accepted."""
    before = accepted(*visitors).total()
    until(lambda: accepted(*visitors).total() >= before + count, "more hits")


def until(condition: Callable[[], object], what: str) -> None:
    wait_for(condition, within_s=PATIENCE_S, what=what)


def said(user: User, *words: str) -> str:
    """What a command that does as it is told says. On a busy machine it may take longer than it waits."""
    answer = user.run(*words)
    assert answer.returncode == 0 or "not yet in" in answer.stdout or "drains, and after" in answer.stderr, (
        answer.stderr
    )
    return answer.stdout


def load(user: User, name: str, key: str) -> float:
    return user.living()[name].load.get(key, 0.0)


def test_a_drained_collector_gets_nothing_new_and_what_it_has_is_counted(user: User) -> None:
    with hits(user, "drain.example") as visitors:
        until(lambda: load(user, "collector-1", "accepted") and load(user, "collector-2", "accepted"), "hits on both")
        assert f"drained/{DC}/collector-1 = drained" in said(user, "drain", "collector-1")
        until(lambda: user.living()["collector-1"].state == DRAINED, "its word")
        until(lambda: not load(user, "collector-1", "jobs"), "its jobs to be counted")
        [shown] = [each for each in user.ask("status") if each["name"] == "collector-1"]
        assert (shown["state"], shown["why"]) == ("draining", "by an operator")
        before = load(user, "collector-1", "accepted")
        more_hits(visitors, 100)
        time.sleep(user.config.timing.heartbeat_s)
        assert load(user, "collector-1", "accepted") == before
        refused = user.run("drain", "collector-2")
        assert (refused.returncode, refused.stderr.count("\n")) == (1, 1)
        assert "collector-2 is the last collector that is up and not drained" in refused.stderr
        said(user, "undrain", "collector-1")
        until(lambda: load(user, "collector-1", "accepted") > before, "hits on it again")


def test_a_drained_processor_gives_its_partitions_away_and_gets_its_share_back(user: User) -> None:
    share = {partition for partition, name in user.owned().items() if name == "processor-1"}
    assert share
    pid = user.living()["processor-1"].pid
    with hits(user, "partitions.example"):
        said(user, "drain", "processor-1")
        until(lambda: set(user.owned().values()) == {"processor-2"} and len(user.owned()) == 32, "all with the other")
        user.supervisorctl("restart", f"{DC}-processor-1")
        until(
            lambda: user.living().get("processor-1", None) and user.living()["processor-1"].pid != pid, "the next one"
        )
        until(lambda: user.living()["processor-1"].state == DRAINED, "its word after a restart")
        until(lambda: set(user.owned().values()) == {"processor-2"}, "it to own nothing")
        refused = user.run("drain", "processor-2")
        assert "processor-2 is the last processor" in refused.stderr
        said(user, "undrain", "processor-1")
        until(lambda: {at for at, name in user.owned().items() if name == "processor-1"} == share, "its share")


def test_jobs_that_are_moved_under_load_by_movers_that_are_killed_are_counted_once(user: User) -> None:
    processors = [user.living()[name].pid for name in ("processor-1", "processor-2")]
    with hits(user, "moved.example") as visitors:
        for pid in processors:
            os.kill(pid, signal.SIGSTOP)  # nobody acks: hits are taken, and wait in both files
        try:
            more_hits(visitors, 100)
            until(lambda: moved(user, kill=False) > 0, "jobs that could be moved")
            for _ in range(2):
                moved(user, kill=True)
                more_hits(visitors)
        finally:
            for pid in processors:
                os.kill(pid, signal.SIGCONT)
        moved(user, kill=False)
    found = user.ask("spool", "list")
    assert [(each["copy"], each["usable"], each["buried"]) for each in found] == [(1, True, 0), (2, True, 0)]


def moved(user: User, *, kill: bool) -> int:
    """Jobs that `hitmesh spool move` of the first file to the second one says it has moved; 0 when it was killed."""
    within = str(PATIENCE_S) if kill else "0.5"  # while nobody acks there is always something left
    command = [*HITMESH, "spool", "move", "1", "2", "--within", within, "--state-dir", str(user.folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        if kill:
            assert process.stderr is not None
            assert "moved;" in process.stderr.readline()  # how far it is, after a second
            process.kill()
        out, err = process.communicate(timeout=PATIENCE_S)
    assert kill or re.match("[0-9]+ jobs? moved", out), err
    return 0 if kill else int(out.split()[0])

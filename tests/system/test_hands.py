"""Operators' hands on a running mesh: instances that are drained, weighed and undrained under load.

One mesh is shared by the module, and its books balance at the end. Whatever is done to it, no request fails.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator

import pytest

from hitmesh.state.standing import DRAINED
from tests.services import wait_for
from tests.system.user import DC, PATIENCE_S, PATIENT, User, mesh
from tests.system.visitors import Visitor, accepted, at_work

CLIENTS = 3


@pytest.fixture(scope="module")
def user(tmp_path_factory: pytest.TempPathFactory) -> Iterator[User]:
    """Two collectors and processors behind a balancer; nobody is called dead for being slow."""
    timing = {**PATIENT, "heartbeat_s": 0.5}
    with mesh(tmp_path_factory.mktemp("hands"), timing=timing, nexus=1, balancer=1) as user:
        yield user
        user.assert_balanced()


@contextlib.contextmanager
def hits(user: User, site: str) -> Iterator[list[Visitor]]:
    """Load on the balancer, of which nothing fails, and all of which is counted at the end."""
    [place] = user.config.instances("balancer")
    pages = [f"{site}/{number}" for number in range(64)]
    visitors = [Visitor(f"http://{place.address}:{place.port}", pages[at::CLIENTS]) for at in range(CLIENTS)]
    with at_work(*visitors):
        more_hits(visitors)
        yield visitors
        more_hits(visitors)
    assert not any(visitor.failed or visitor.refused for visitor in visitors)
    user.wait_until_settled()
    assert user.committed(f"{site}/") == accepted(*visitors)


def more_hits(visitors: list[Visitor], count: int = 20) -> None:
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

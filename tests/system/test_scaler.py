"""A real mesh whose scaler starts a collector under load and stops it afterwards: nothing fails, every hit is counted once."""

from __future__ import annotations

import json
import os
import re
import signal
import time
from collections.abc import Iterator
from typing import Any

import pytest

from hitmesh.deploy.memory import Memory
from hitmesh.settings.open import open_settings
from tests.services import wait_for
from tests.system.user import DC, PATIENT, User, mesh_of
from tests.system.visitors import Visitor, accepted, at_work, doubtful

SITE = "scaler.example"
SPARE = "collector-2"
SOON_S = 90.0  # for what takes some ten seconds on a quiet machine
# What two visitors make of one collector's CPU is far above, and what an idle one takes far below.
TARGET: dict[str, Any] = {"max": 2, "busy": 0.06, "p99_ms": 0.0, "up_s": 2.0, "down_s": 5.0}
SCALER: dict[str, Any] = {"host_busy": 1.0, "host_free_mb": 0, "warm_s": 1.0, "collector": TARGET}


class Passer(Visitor):
    """One who is answered by several collectors, each of which knows the others' hits a little later."""

    def saw(self, page: str, total: int | None, *, more: int = 0) -> None:
        self.unknown += total is None


@pytest.fixture(scope="module")
def user(tmp_path_factory: pytest.TempPathFactory) -> Iterator[User]:
    """A datacenter with one collector, a place for another, and two scalers on the one node."""
    one = {"nexus": 1, "processor": 1, "collector": 1, "balancer": 1, "scaler": 2}
    with mesh_of(tmp_path_factory.mktemp("scaler"), one, {"timing": PATIENT, "scaler": SCALER}) as user:
        yield user
        user.wait_until_settled()
        user.assert_balanced()


def program(user: User) -> str:
    """supervisord's word for the spare."""
    return user.supervisorctl("status", f"{DC}-{SPARE}").split()[1]


def events(user: User) -> list[str]:
    """What the scalers have said that they have changed, in the order of time: each may have decided."""
    logs = [user.folder / "log" / f"{DC}-scaler-{n}.log" for n in (1, 2)]
    return sorted(
        line for log in logs for line in log.read_text().splitlines() if re.search(r": collector \d -> \d, on ", line)
    )


def test_a_spare_that_nobody_has_started_is_missed_by_nobody(user: User) -> None:
    assert program(user) == "STOPPED"
    assert SPARE not in user.supervised()
    assert user.run("ready").returncode == 0
    refused = user.run("scale", "collector=2")
    assert refused.returncode == 1
    assert "`hitmesh config set scaler.collector.min N` has it run at least N" in refused.stderr


def test_load_starts_one_more_and_its_end_stops_it_and_a_scaler_that_is_killed_meanwhile_does_no_harm(
    user: User,
) -> None:
    [url] = json.loads(user.run("endpoints", "--json").stdout)[DC]["balancer"]
    visitors = [Passer(url, [f"{SITE}/{n}"], pause_s=0.003) for n in range(2)]
    with at_work(*visitors):
        os.kill(user.pid("scaler-1"), signal.SIGKILL)
        wait_for(lambda: SPARE in user.living(), within_s=SOON_S, what="another collector")
        wait_for(lambda: user.living()[SPARE].load.get("accepted"), within_s=SOON_S, what="it to take its share")
        assert user.run("ready").returncode == 0
    wait_for(lambda: program(user) == "STOPPED", within_s=SOON_S, what="it to be stopped when nobody comes any more")
    wait_for(lambda: SPARE not in user.living(), within_s=SOON_S, what="it to be gone")
    assert not doubtful(*visitors) + sum((one.refused for one in visitors), doubtful())
    user.wait_until_settled()
    wait_for(lambda: user.committed(f"{SITE}/") == dict(accepted(*visitors)), within_s=SOON_S, what="all to be counted")
    said = events(user)
    assert len(said) == 2, said
    assert "1 -> 2, on local: 1 use " in said[0]
    assert "scaled=collector node=local was=1 now=2 min=0 max=2 busy=0.06 counted=1 " in said[0], "with its figures"
    assert "2 -> 1, on local: " in said[1]


def test_while_somebody_works_on_the_datacenter_nothing_is_started_and_then_it_is(user: User) -> None:
    store = open_settings(user.config.stores.settings, user.folder / DC)
    try:
        memory, now = Memory(store, DC), time.time()
        memory.take("token", "op@desk", "deploy 0.3", 600.0, now)
        assert user.run("config", "set", "scaler.collector.min", "2").returncode == 0
        wait_for(
            lambda: any("op@desk is at work: deploy 0.3" in line for line in log(user)),
            within_s=SOON_S,
            what="it to say why",
        )
        assert program(user) == "STOPPED"
        memory.free("token", "op@desk")
    finally:
        store.close()
    wait_for(lambda: SPARE in user.living(), within_s=SOON_S, what="the least that is wanted")
    status = user.ask("status")
    assert {one["state"] for one in status} == {"up"}
    assert {one["load"]["wanted_collector"] for one in status if one["role"] == "scaler"} == {2}


def log(user: User) -> list[str]:
    return [line for n in (1, 2) for line in (user.folder / "log" / f"{DC}-scaler-{n}.log").read_text().splitlines()]

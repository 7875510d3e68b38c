"""Two balancers of a real mesh get more workers and fewer, while clients connect all the time: nobody fails, every hit counts."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
from collections.abc import Iterator
from typing import Any, Final

import pytest

from hitmesh.settings.open import open_settings
from hitmesh.settings.wanted import Wanted, decode, encode, key_of
from hitmesh.state.standing import program_of
from tests.balancer.certificates import client_context, make_certificate
from tests.services import wait_for
from tests.system.user import DC, PATIENT, User, answer_to, mesh_of
from tests.system.visitors import Visitor, accepted, at_work, doubtful

SITE: Final = "workers.example"
SOON_S: Final = 90.0  # for what takes some seconds on a quiet machine
BALANCERS: Final = ("balancer-1", "balancer-2")
SCALER: Final[dict[str, Any]] = {
    "dry_run": True, "host_busy": 1.0, "host_free_mb": 0, "warm_s": 1.0,
    "balancer": {"max": 4, "busy": 0.9, "up_s": 2.0, "down_s": 5.0},
}  # fmt: skip


class Newcomer(Visitor):
    """One who comes anew for each hit, by HTTP or HTTPS, to any collector."""

    def request(self, method: str, path: str) -> tuple[int, Any] | None:
        scheme, _, place = self.url.partition("://")
        connection = (
            http.client.HTTPSConnection(place, timeout=60.0, context=client_context())
            if scheme == "https"
            else http.client.HTTPConnection(place, timeout=60.0)
        )
        try:
            connection.request(method, path)
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read())
        except (OSError, http.client.HTTPException, ValueError) as error:
            self.errors.append(repr(error))
            return None
        finally:
            connection.close()

    def __init__(self, url: str, pages: list[str]) -> None:
        super().__init__(url, pages, pause_s=0.003)
        self.errors: list[str] = []

    def saw(self, page: str, total: int | None, *, more: int = 0) -> None:
        self.unknown += total is None


@pytest.fixture(scope="module")
def user(tmp_path_factory: pytest.TempPathFactory) -> Iterator[User]:
    """A datacenter with two balancers, which have HTTPS too, and a scaler that changes nothing yet."""
    folder = tmp_path_factory.mktemp("workers")
    tables = {
        "timing": PATIENT,
        "scaler": SCALER,
        "ports": {"balancer_tls": 8443},
        "balancer": {"tls": {"certificates": [str(make_certificate(folder, SITE))]}},
    }
    one = {"nexus": 1, "processor": 1, "collector": 1, "balancer": 2, "scaler": 1, "dashboard": 1}
    with mesh_of(folder, one, tables) as user:
        yield user
        user.wait_until_settled()
        user.assert_balanced()


def want(user: User, workers: int) -> None:
    """As a scaler says it."""
    store = open_settings(user.config.stores.settings, user.folder / DC)
    try:
        found = store.get(key_of(DC))
        wanted = decode(found.value if found is not None else None) or Wanted()
        store.set(key_of(DC), encode(Wanted(wanted.holder, wanted.counts, wanted.changes, workers)), author="test")
    finally:
        store.close()


def workers(user: User) -> dict[str, int]:
    """How many of each balancer are there, and up."""
    found = dict.fromkeys(BALANCERS, 0)
    for name, one in user.living().items():
        if one.role == "balancer" and one.state == "up":
            found[program_of(name)] += 1
    return found


def come_to(user: User, count: int) -> None:
    wait_for(lambda: workers(user) == dict.fromkeys(BALANCERS, count), within_s=SOON_S, what=f"{count} workers of each")


def logs(user: User) -> str:
    return "".join((user.folder / "log" / f"{DC}-{name}.log").read_text() for name in BALANCERS)


def urls(user: User) -> list[str]:
    found: list[str] = json.loads(user.run("endpoints", "--json").stdout)[DC]["balancer"]
    return found


def events(user: User) -> list[dict[str, Any]]:
    """What the dashboard has to tell, and that there is nothing that isn't well."""
    status, shown = answer_to(json.loads(user.run("endpoints", "--json").stdout)["dashboard"], "GET", "/status.json")
    assert (status, shown["says"]) == (200, "all is well")
    found: list[dict[str, Any]] = shown["events"]
    return found


def all_counted(user: User, *visitors: Visitor) -> None:
    user.wait_until_settled()
    certain, perhaps = accepted(*visitors), doubtful(*visitors)
    wait_for(
        lambda: all(
            certain[page] <= user.committed(f"{SITE}/").get(page, 0) <= certain[page] + perhaps[page]
            for page in certain
        ),
        within_s=SOON_S,
        what="all to be counted",
    )  # fmt: skip


def test_as_many_as_are_wanted_serve_and_no_client_fails_while_they_come_and_go(user: User) -> None:
    pids = {name: user.pid(name) for name in BALANCERS}
    supervised = [user.supervisorctl("pid", f"{DC}-{name}") for name in BALANCERS]
    places = [*urls(user), *(f"https://{each.address}:{each.tls_port}" for each in user.config.instances("balancer"))]
    visitors = [Newcomer(url, [f"{SITE}/comes-and-goes-{n}"]) for n, url in enumerate(places)]
    with at_work(*visitors):
        for count in (3, 2, 4):
            want(user, count)
            come_to(user, count)
            assert user.run("ready").returncode == 0
        for name in BALANCERS:
            os.kill(int(user.supervisorctl("pid", f"{DC}-{name}")), signal.SIGHUP)
        wait_for(lambda: logs(user).count("read again") == 2, within_s=SOON_S, what="the files to be read again")
        come_to(user, 4)
        want(user, 1)
        come_to(user, 1)
    assert [one.errors for one in visitors] == [[]] * len(places)
    assert not doubtful(*visitors) + sum((one.refused for one in visitors), doubtful())
    all_counted(user, *visitors)
    assert user.committed(f"{SITE}/comes") == dict(accepted(*visitors)), "each once"
    assert [user.supervisorctl("pid", f"{DC}-{name}") for name in BALANCERS] == supervised, "supervisord saw nothing"
    assert {name: user.pid(name) for name in BALANCERS}.keys() == pids.keys()
    assert {one["state"] for one in user.ask("status")} == {"up"}
    told = [(each["kind"], each["who"]) for each in events(user) if each["who"].startswith("balancer-")]
    assert {kind for kind, _ in told} <= {"joined", "drained", "left"}, "nobody has died"
    assert ("left", "balancer-1-w3") in told
    assert logs(user).count("are wanted") == 2 * 4, "one change each time, and none for the file that was read again"


def test_a_killed_worker_and_a_killed_master_come_again_as_many_and_no_hit_is_lost(user: User) -> None:
    want(user, 3)
    come_to(user, 3)
    visitors = [Newcomer(url, [f"{SITE}/killed-{n}"]) for n, url in enumerate(urls(user))]
    with at_work(*visitors):
        victim = user.living()["balancer-1-w2"]
        os.kill(victim.pid, signal.SIGKILL)
        wait_for(
            lambda: (now := user.living().get("balancer-1-w2")) is not None and now.pid != victim.pid,
            within_s=SOON_S, what="another worker",
        )  # fmt: skip
        os.kill(int(user.supervisorctl("pid", f"{DC}-balancer-1")), signal.SIGKILL)
        before = visitors[0].accepted.total()
        wait_for(lambda: visitors[0].accepted.total() > before + 20, within_s=SOON_S, what="it to serve again")
        come_to(user, 3)
    assert visitors[1].errors == [], "the other balancer lost nobody"
    all_counted(user, *visitors)
    want(user, 1)
    come_to(user, 1)


def test_load_above_the_target_brings_more_and_load_below_it_fewer(user: User) -> None:
    visitors = [Newcomer(urls(user)[0], [f"{SITE}/load-{n}"]) for n in range(2)]
    # What two visitors make of a worker's CPU is above the one, and what an idle one takes far below the other.
    assert user.run("config", "set", "scaler.balancer.busy", "0.01").returncode == 0
    assert user.run("config", "set", "scaler.dry_run", "false").returncode == 0
    with at_work(*visitors):
        wait_for(lambda: min(workers(user).values()) > 1, within_s=SOON_S, what="more workers of both balancers")
        [scaler] = [one for one in user.ask("status") if one["role"] == "scaler"]
        assert scaler["load"]["wanted_balancer"] > 1
        assert user.run("config", "set", "scaler.balancer.busy", "0.9").returncode == 0
        come_to(user, 1)
    assert not doubtful(*visitors) + sum((one.refused for one in visitors), doubtful())
    said = (user.folder / "log" / f"{DC}-scaler-1.log").read_text()
    assert re.search(r"workers of each balancer 1 -> [234]: 1 use \d+% of a CPU each, to be 1%, for 2 s", said)
    assert re.search(r"scaled=balancer node=\* was=1 now=[234] min=0 max=4 busy=0.01 counted=1 ", said), (
        "with its figures"
    )
    all_counted(user, *visitors)
    assert user.run("config", "set", "scaler.balancer.max", "0").returncode == 0
    want(user, 4)
    wait_for(lambda: "wanted_balancer" not in scaler_load(user), within_s=SOON_S, what="the scaler to leave them alone")
    assert workers(user) == dict.fromkeys(BALANCERS, 1)


def scaler_load(user: User) -> dict[str, float]:
    return dict(user.living()["scaler-1"].load)

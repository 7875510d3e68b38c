"""A datacenter from nothing by `fab`, another version of it under load, and mistakes.

Bad versions are taken back in tests/hitmesh/deploy/test_runner.py, and on hosts by `bench/run deploys`.

One bed for all of it, in this order: each test goes on with the datacenter as the one before has left it.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from hitmesh import __version__
from tests.hosts.bed import REPOSITORY, Bed
from tests.hosts.fab import Fab, copy_checkout
from tests.hosts.fleet import DASHBOARD, Fleet
from tests.hosts.guest import Guest, asked, total
from tests.services import require, wait_for
from tests.system.visitors import accepted, at_work

PAGES = tuple(f"site.example/{number}" for number in range(10))
ANSWER_S = 10.0
SCALED_S = 90.0  # on a busy machine; some seconds
PAUSE_S = 0.04  # between two requests of a client, for minutes
SPARES = (("a", "collector-3"), ("b", "collector-4"))
SUPERVISORCTL = ("/opt/hitmesh/system/bin/supervisorctl", "-c", "/var/lib/hitmesh/supervisord.conf")
TOKEN = "?token=/etc/hitmesh/keys/pair/{role}/consul.token"
SETTINGS = {
    "deploy": {"bake_s": 2.0, "consul": {"acl": True}},
    "stores": {
        "totals": f"consul://127.0.0.1:8500/hitmesh{TOKEN}",
        "settings": f"consul://127.0.0.1:8500/hitmesh-settings{TOKEN}",
    },
    # The hosts share the machine with all else that runs there: how busy it is, is no reason here to start nothing.
    "scaler": {"host_busy": 1.0, "warm_s": 1.0, "collector": {"max": 4, "node_max": 2, "p99_ms": 0.0, "busy": 1.0}},
}


class Operator:
    """Somebody with a checkout, a datacenter's file, and an account of what clients were told."""

    def __init__(self, bed: Bed, folder: Path) -> None:
        (folder / "config").mkdir()
        self.bed, self.folder = bed, folder
        self.fleet = Fleet(bed, "pair", folder / "config", settings=SETTINGS)
        self.fab = Fab(bed, folder / "config", folder / "var")
        self.expected: Counter[str] = Counter()
        self.doubts: Counter[str] = Counter()  # hits without an answer, perhaps counted, and perhaps late

    def run(self, task: str, fab: Fab | None = None) -> str:
        """What a task says that goes well."""
        status, said = (fab or self.fab).run(task)
        assert status == 0, said
        return said

    def refused(self, task: str, fab: Fab | None = None) -> str:
        """What a task says that doesn't."""
        status, said = (fab or self.fab).run(task)
        assert status == 1, said
        return said

    def of(self, version: str) -> Fab:
        """`fab` in a checkout of another version, on a machine without a compiler: the first release has shown one."""
        folder = self.folder / version
        return self.fab.of(folder if folder.exists() else copy_checkout(folder, version), CC="no-compiler")

    def total(self, page: str) -> int | None:
        """What the virtual IP says; None when it doesn't."""
        return total(self.bed.place("client"), self.fleet.vip, page)

    def status(self) -> Mapping[str, Any]:
        """What the dashboard of `a` says to somebody elsewhere; nothing when it doesn't answer."""
        return (
            asked(self.bed.place("client"), f"{self.fleet.hosts['a'].address}:{DASHBOARD}", "GET", "/status.json") or {}
        )

    def spares(self) -> list[str]:
        """Those that run, as supervisord says on their hosts."""
        said = {node: self.fleet.hosts[node].run([*SUPERVISORCTL, "status", f"pair-{name}"]) for node, name in SPARES}
        return [name for node, name in SPARES if "RUNNING" in said[node].stdout]

    def spares_count(self) -> bool:
        """Whether each of them has taken hits."""
        loads = {one["name"]: one["load"] for one in json.loads(self.run("hitmesh:dc=pair,args=status --json"))}
        return all(loads[name].get("accepted", 0) > 0 for _, name in SPARES)

    def set(self, key: str, value: int) -> None:
        """Change a live setting of how many collectors there are."""
        assert "in force in" in self.run(f"hitmesh:dc=pair,args=config set scaler.collector.{key} {value}")

    def log(self, node: str, name: str) -> str:
        """What an instance has logged."""
        return self.fleet.hosts[node].read(f"/var/log/hitmesh/pair-{name}.log")

    def guests(self) -> list[Guest]:
        """Clients of the virtual IP."""
        return [Guest(self.bed.place("client"), self.fleet.url, PAGES, pause_s=PAUSE_S) for _ in range(2)]

    def check(self, *guests: Guest, unplanned: int = 0) -> None:
        """No request has failed, and every hit that was answered is counted once.

        Where the address has moved without a balancer's farewell (`unplanned`), as it may on a host that gets no CPU
        for a third of a second, each client's open connection is lost, and with it an answer: perhaps counted.
        """
        assert sum(guest.refused.total() for guest in guests) == 0
        lost = sum((guest.failed for guest in guests), Counter[str]())
        assert lost.total() <= len(guests) * unplanned
        self.expected += accepted(*guests)
        self.doubts += lost
        totals: dict[str, int | None] = {}

        def is_exact() -> bool:
            totals.update((page, self.total(page)) for page in PAGES)
            more = {page: count - self.expected[page] for page, count in totals.items() if count is not None}
            return all(page in more and 0 <= more[page] <= self.doubts[page] for page in PAGES)

        try:
            wait_for(is_exact, what="the totals")
        except AssertionError as error:
            raise AssertionError(f"totals {totals}, answered {self.expected}, in doubt {self.doubts}") from error
        assert '"balanced": true' in self.run("hitmesh:dc=pair,args=audit --json")


@pytest.fixture(scope="module")
def operator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Operator]:
    for program in ("consul", "beanstalkd", "keepalived", "sudo"):
        require(program)
    with Bed() as bed:
        operator = Operator(bed, tmp_path_factory.mktemp("operator"))
        bed.up()
        yield operator


def test_two_commands_make_a_datacenter_of_hosts_with_nothing_but_sshd(operator: Operator) -> None:
    operator.run("bootstrap:dc=pair")
    said = operator.run("deploy:dc=pair")
    assert "wait until every instance and partition is there" in said
    wait_for(lambda: operator.total(PAGES[0]) == 0, what="the virtual IP to answer")
    moves = operator.fleet.moves()
    with at_work(*operator.guests()) as guests:
        wait_for(lambda: accepted(*guests).total() > 50, what="some hits")
    operator.check(*guests, unplanned=operator.fleet.moves() - moves)
    wait_for(lambda: operator.status().get("says") == "all is well", what="the dashboard to say so")
    assert "already; nothing to do" in operator.run("deploy:dc=pair")
    loads = [one["load"] for one in operator.status()["dcs"]["pair"]["instances"]]
    assert {load["compiled"] for load in loads} == {0.0 if "not compiled" in said else 1.0}


def test_another_version_is_deployed_under_load_and_no_request_fails(operator: Operator) -> None:
    """Nor does a scaler change anything meanwhile; afterwards it does, on each host, as it was told to."""
    newer = operator.of(f"{__version__}.post1")
    moves, holders = operator.fleet.moves(), operator.fleet.holders()
    too_early: list[str] = []
    wanted = False

    def tell(line: str) -> None:
        nonlocal wanted
        if "drain and restart" in line and not wanted:
            operator.set("min", 4)
            wanted = True
        elif "drain and restart" in line:
            too_early.extend(operator.spares())

    with at_work(*operator.guests()) as guests:
        status, said = newer.run("deploy:dc=pair", tell)
        assert status == 0, said
        assert said.count("drain and restart") == 11
        assert too_early == []
        assert "collector: nothing is changed: " in operator.log("a", "scaler-1")
        wait_for(
            lambda: operator.spares() == [name for _, name in SPARES],
            within_s=SCALED_S,
            what="the collectors that are wanted",
        )
        wait_for(operator.spares_count, within_s=SCALED_S, what="them to take hits")
        operator.set("min", 0)
        operator.set("max", 2)
        wait_for(lambda: not operator.spares(), within_s=SCALED_S, what="them to have ended")
    # a's balancer is restarted first: the address goes to b, and then back.
    planned = 2 if holders == [operator.fleet.hosts["a"]] else 1
    operator.check(*guests, unplanned=max(0, operator.fleet.moves() - moves - planned))
    as_user = ["pgrep", "-u", "hitmesh-scaler", "-fc", "--", "--name scaler-1"]
    assert operator.fleet.hosts["a"].run(as_user).stdout.strip() == "1"


def test_a_mistake_is_one_line_and_changes_nothing(operator: Operator) -> None:
    assert "there is no datacenter pear" in operator.refused("deploy:dc=pear")
    host = operator.fleet.hosts["b"]
    host.cut()
    try:
        assert "b (10.3.0.12): it can't be reached" in operator.refused("deploy:dc=pair", operator.fab.of(REPOSITORY))
    finally:
        host.heal()
    known = operator.bed.ssh_config.parent / "known_hosts"
    before = known.read_text()
    lines = before.splitlines()
    known.write_text("\n".join(reversed([line.split(" ", 1)[0] + " " + other.split(" ", 1)[1]
                                         for line, other in zip(lines, reversed(lines), strict=True)])) + "\n")  # fmt: skip
    try:
        assert "its host key has changed" in operator.refused("check:dc=pair")
    finally:
        known.write_text(before)
    assert "b: " in operator.run("check:dc=pair")

"""What a deploy and a check refuse of a file, since hosts run with another one."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import cast

import msgspec
import pytest

from hitmesh import config as settings
from hitmesh.deploy import bootstrap, tasks
from hitmesh.deploy.desk import Desk
from hitmesh.deploy.fleet import Fleet
from hitmesh.deploy.paths import config_path, program_path
from hitmesh.deploy.plan import Change, Stop
from hitmesh.deploy.refusals import Standing, StandingStores, emptied, left_out, other_totals
from hitmesh.deploy.ssh import Ssh
from hitmesh.errors import CommandError
from tests.hitmesh.deploy.fake_hosts import FakeSsh
from tests.hitmesh.deploy.test_tasks import DATA, NEW, OLD, Operator

FILE = config_path("dc")
EIGHT = "dc has 8 partitions on its hosts, and the file says 32: totals can't be moved; put 8 back"


@pytest.fixture
def operator(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Operator:
    monkeypatch.setattr("hitmesh.deploy.runner.POLL_S", 0.02)
    return Operator(tmp_path, monkeypatch)


def refused_by_check(operator: Operator) -> str:
    with pytest.raises(CommandError) as caught:
        tasks.check(operator.desk)
    return str(caught.value)


def stands(operator: Operator, text: str, *hosts: str) -> None:
    for host in hosts:
        operator.hosts.files[host][FILE] = text


@pytest.mark.parametrize("asked", [{}, {"dry": True}, {"force": True}, {"only": "a"}])
@pytest.mark.parametrize("hosts", [["a", "b"], ["b"]], ids=["on all hosts", "on one host"])
def test_another_number_of_partitions_than_hosts_count_with_is_refused_however_it_is_asked(
    operator: Operator, hosts: list[str], asked: dict[str, object]
) -> None:
    stands(operator, operator.desk.text, "a", "b")
    stands(operator, f"partitions = 8\n{operator.desk.text}", *hosts)
    assert EIGHT in operator.refused(**asked)
    assert EIGHT in refused_by_check(operator)
    assert operator.hosts.calls == []


@pytest.mark.parametrize("asked", [{}, {"dry": True}, {"only": "a"}])
def test_another_totals_store_is_refused_until_it_is_forced(operator: Operator, asked: dict[str, object]) -> None:
    stands(operator, f'{operator.desk.text}\n[stores]\ntotals = "consul://127.0.0.1:8500/hits?token=/a"\n', "a", "b")
    why = "dc counts in Consul's hits, and the file says sqlite:///totals.db: nothing is moved there by a deploy"
    assert why in operator.refused(**asked)
    assert why in refused_by_check(operator)
    assert operator.hosts.calls == []
    operator.deploy(force=True)
    assert operator.runs() == {NEW}


@pytest.mark.parametrize(
    ("old", "new", "is_same"),
    [
        ("consul://127.0.0.1:8500/hits?token=/a", "consul+https://10.0.0.1:8501,10.0.0.2:8501/hits/?ca=/b", True),
        ("consul://127.0.0.1:8500/hits", "consul://127.0.0.1:8500/hit", False),
        ("sqlite:///totals.db", "sqlite:////srv/totals.db", False),
    ],
)
def test_the_same_totals_store_by_another_way_is_no_objection(old: str, new: str, *, is_same: bool) -> None:
    config = settings.parse({**DATA, "stores": {"totals": new}}, source="test")
    standing = Standing(stores=StandingStores(totals=old))
    assert (list(other_totals(config, [standing])) == []) is is_same


def test_hosts_that_disagree_about_partitions_are_both_named(operator: Operator) -> None:
    stands(operator, f"partitions = 8\n{operator.desk.text}", "a")
    stands(operator, f"partitions = 16\n{operator.desk.text}", "b")
    assert "has 8 and 16 partitions on its hosts, and the file says 32" in operator.refused()


def test_a_file_whose_hosts_never_ran_anything_or_that_cannot_be_read_is_no_objection(operator: Operator) -> None:
    stands(operator, "partitions = ", "b")
    operator.hosts.current = dict.fromkeys(operator.hosts.current, "")
    stands(operator, f"partitions = 8\n{operator.desk.text}", "a")  # a bootstrap's
    operator.deploy(dry=True)


def test_a_bootstrap_of_a_host_that_counts_with_other_partitions_changes_nothing(
    operator: Operator, tmp_path: Path
) -> None:
    stands(operator, f"partitions = 8\n{operator.desk.text}", "a")
    desk = operator.desk
    with pytest.raises(CommandError, match="has 8 partitions on its hosts"):
        bootstrap.bootstrap(desk.fleet, desk.text, desk.hosts["a"], desk.ssh, tmp_path / "none.tar", [], {})
    assert operator.hosts.calls == []


# --- a host that the file has no more -------------------------------------------------------

NODES = {**DATA["nodes"], "c": {"address": "10.0.0.3", "collector": 1, "processor": 1}}
NOTHING = {"address": "10.0.0.3"}


def desk_with(operator: Operator, nodes: Mapping[str, object]) -> Desk:
    """The same hosts, by a file with other nodes."""
    path = operator.desk.path
    path.write_text(settings.dump(settings.parse({**DATA, "nodes": nodes}, source="test")))
    hosts = cast(Ssh, operator.hosts)
    return Desk(path, Fleet.of(settings.load(path)), hosts, operator.told.append)


@pytest.fixture
def three(operator: Operator, tmp_path: Path) -> Operator:
    """An operator whose file has lost the third of the hosts that run."""
    fleet = Fleet.of(settings.parse({**DATA, "nodes": NODES}, source="test"))
    operator.hosts = FakeSsh(fleet, OLD, settings=tmp_path / "dc.db")
    stands(operator, desk_with(operator, NODES).text, "a", "b", "c")
    operator.desk = desk_with(operator, DATA["nodes"])
    return operator


def empty(operator: Operator, host: str) -> None:
    for one in operator.hosts.fleet.host(host).instances:
        operator.hosts.current[one.name] = ""


C_RUNS = "c (10.0.0.3) still has collector-3, processor-3, and the file doesn't have it any more: set its counts to 0 and deploy"


def test_a_host_that_is_taken_out_of_the_file_while_it_runs_something_is_refused_unless_it_is_forced(
    three: Operator,
) -> None:
    assert C_RUNS in three.refused()
    assert C_RUNS in three.refused(only="a", dry=True)
    assert C_RUNS in refused_by_check(three)
    assert three.hosts.calls == []
    three.deploy(force=True)
    assert three.hosts.current["collector-1"] == NEW


def test_a_host_that_was_emptied_may_be_taken_out(three: Operator) -> None:
    empty(three, "c")
    three.deploy()


def test_what_would_start_again_at_the_next_boot_and_keepalived_are_something_too(three: Operator) -> None:
    empty(three, "c")
    stands(three, desk_with(three, {**NODES, "c": NOTHING}).text, "a", "b")
    three.desk = desk_with(three, DATA["nodes"])
    three.hosts.programs = ["consul-1"]
    three.hosts.files["c"] = {program_path("dc", "keepalived-1"): "[program:dc-keepalived-1]"}
    assert "c (10.0.0.3) still has keepalived-1, and" in three.refused(dry=True)


def test_a_host_that_cannot_be_asked_is_taken_for_what_its_file_gave_it(three: Operator) -> None:
    three.hosts.vanish("c", "c ")
    said = three.refused()
    assert "whether c (10.0.0.3) still runs something can't be told (c: it can't be reached)" in said
    assert "force=1" in said
    stands(three, desk_with(three, {**NODES, "c": NOTHING}).text, "a", "b")
    three.desk = desk_with(three, DATA["nodes"])
    three.deploy()


def test_a_host_with_another_name_is_the_same_and_one_with_another_address_is_not(three: Operator) -> None:
    standing = [msgspec.convert(tomllib.loads(three.hosts.files["a"][FILE]), Standing)] * 2
    renamed = desk_with(three, {**DATA["nodes"], "d": NODES["c"]}).fleet
    assert [*left_out(renamed, standing)] == []
    moved = desk_with(three, {**NODES, "c": {**NODES["c"], "address": "10.0.0.4"}}).fleet
    assert [(host.name, host.address) for host, _ in left_out(moved, standing)] == [("c", "10.0.0.3")]


# --- who works meanwhile --------------------------------------------------------------------


def test_a_plan_that_stops_all_of_a_role_before_one_starts_is_refused_unless_it_is_forced(operator: Operator) -> None:
    a, b = DATA["nodes"].items()
    operator.desk = desk_with(operator, dict([b, a]))
    said = "this plan stops every nexus, every processor, every collector, every balancer before it starts one"
    assert said in operator.refused()
    assert said in operator.refused(dry=True)
    assert operator.hosts.calls == []
    operator.deploy(dry=True, force=True)
    assert "b: drain and stop balancer-2" in "".join(operator.told)


@pytest.mark.parametrize(
    "nodes",
    [
        {**DATA["nodes"], "a": {**DATA["nodes"]["a"], "collector": 2}},  # b's collector-2 goes to a
        {**DATA["nodes"], "b": {**DATA["nodes"]["b"], "balancer": 0}},
        {name: {**node, "balancer": 0} for name, node in DATA["nodes"].items()},  # which is what it says
    ],
)
def test_a_plan_that_leaves_one_of_each_role_or_the_role_out_is_carried_out(
    operator: Operator, nodes: Mapping[str, object]
) -> None:
    operator.desk = desk_with(operator, nodes)
    operator.deploy(dry=True)


def test_of_a_role_that_runs_on_hosts_which_are_not_asked_one_host_may_lose_its_own(operator: Operator) -> None:
    operator.desk = desk_with(operator, {**DATA["nodes"], "b": {**DATA["nodes"]["b"], "balancer": 0}})
    operator.deploy(dry=True, only="b")


def test_a_role_of_which_one_starts_before_the_last_one_stops_is_never_without(operator: Operator) -> None:
    fleet = operator.desk.fleet
    facts = {"a": operator.desk.facts()["a"]}
    stop, start = Stop("a", "collector-1"), Change("a", "collector-9", NEW, "")
    alone = Fleet(config=fleet.config, hosts=[fleet.host("a")])
    assert emptied(alone, [start, stop], facts) == []
    assert emptied(alone, [stop, start], facts) == ["collector"]


PAIR = "b runs datacenter pair already (collector-1, consul-1): give dc hosts of its own"


@pytest.mark.parametrize("asked", [{}, {"dry": True}, {"force": True}, {"only": "b"}])
def test_a_host_that_runs_another_datacenter_is_refused_however_it_is_asked(
    operator: Operator, asked: dict[str, object], tmp_path: Path
) -> None:
    operator.hosts.others = {"b": {"pair": ["collector-1", "consul-1"]}}
    assert PAIR in operator.refused(**asked)
    assert PAIR in refused_by_check(operator)
    desk = operator.desk
    with pytest.raises(CommandError, match="b runs datacenter pair already"):
        bootstrap.bootstrap(desk.fleet, desk.text, desk.hosts["b"], desk.ssh, tmp_path / "none.tar", [], {})
    assert operator.hosts.calls == []

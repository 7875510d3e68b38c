"""Instances that a scaler starts and stops, as a deploy sees them."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from hitmesh.deploy import bootstrap, standstill
from hitmesh.deploy.facts import Facts, Running
from hitmesh.deploy.fleet import Fleet, sees
from hitmesh.deploy.host import rules
from hitmesh.deploy.plan import Asked
from hitmesh.deploy.render import nftables, supervisor
from tests.hitmesh.deploy.test_plan import FILE, NEW, OLD, SEEN, config, planned, texts
from tests.hitmesh.deploy.test_plan import facts as plain_facts

ONE = {"nexus": 1, "processor": 1, "collector": 1, "balancer": 1}
NODES = {"a": {"address": "10.0.0.1", **ONE, "scaler": 1}, "b": {"address": "10.0.0.2", **ONE}}
SCALER = {"collector": {"max": 4, "node_max": 3}}
FLEET = Fleet.of(config(nodes=NODES, scaler=SCALER))  # spares of a: collector-3, collector-4
B = plain_facts("b", NEW)


def facts(runs: str = OLD, *, up: dict[str, str] | None = None, current: dict[str, str] | None = None) -> Facts:
    """Of a, whose instances run a release; of the spares those in `up` run one, and others were given one."""
    names = [one.name for one in FLEET.host("a").instances]
    running = {**dict.fromkeys(names, runs), **(up or {})}
    programs = [Running(name=name, state="RUNNING", pid=7) for name in running]
    programs += [Running(name=name, state="STOPPED", pid=0) for name in current or {} if name not in running]
    return Facts(
        python="3.11.2", platform="linux_x86_64", system="0.2.0", clock=0.0, free_bytes=10**10, releases=[OLD, NEW],
        current={**running, **(current or {})}, configs=dict.fromkeys(running, SEEN), files={FILE.path: FILE.digest},
        programs=programs,
    )  # fmt: skip


def test_one_that_runs_is_changed_like_the_others_and_one_that_doesnt_gets_the_release() -> None:
    steps = texts(planned(facts(up={"collector-3": OLD}, current={"collector-4": OLD}), B, fleet=FLEET))
    assert "a: collector-4 is new and gets 0.2.0-bbbb" in steps
    assert f"a: drain and restart collector-3, {OLD} -> {NEW}" in steps
    assert not [step for step in steps if "collector-4" in step and "is new and gets" not in step]
    assert steps.index(f"a: drain and restart collector-3, {OLD} -> {NEW}") > steps.index(
        f"a: drain and restart collector-1, {OLD} -> {NEW}"
    ), "the canary is one that is always there"


def test_where_all_is_as_it_should_be_there_is_no_step_however_many_the_scaler_has_started() -> None:
    spares = {"collector-3": NEW, "collector-4": NEW}
    for up in ({}, {"collector-3": NEW}, spares):
        here = facts(NEW, up=up, current=spares)
        here = msgspec.structs.replace(here, releases=[NEW])
        assert planned(here, B, fleet=FLEET) == []


def test_a_deploy_of_another_role_gives_them_nothing() -> None:
    here = facts(OLD, current={"collector-3": OLD, "collector-4": OLD})
    steps = texts(planned(here, B, Asked(roles=["processor"]), fleet=FLEET))
    assert not [step for step in steps if "collector" in step]


def test_their_programs_start_by_nobody_but_the_scaler_and_are_let_in() -> None:
    text = FILE.text
    files = {file.path.rpartition("/")[2]: file for file in supervisor.files(FLEET, FLEET.host("a"), text)}
    assert "autostart = false" in files["dc-collector-4.conf"].text
    assert "autostart = true" in files["dc-collector-1.conf"].text
    assert "hitmesh-run collector-4 -m hitmesh collector" in files["dc-collector-4.conf"].text
    assert "user = hitmesh-scaler\n" in files["dc-scaler-1.conf"].text
    for file in files.values():
        rules.check_file(file, "dc")
    of = Fleet.of(config(nodes=NODES, scaler=SCALER, deploy={"firewall": True}))
    [rendered] = nftables.files(of, of.host("a"))
    assert "# collector-4: balancers, and commands" in rendered.text


def test_a_scaler_may_ask_the_supervisord_of_its_host_and_nobody_is_let_in_for_it_elsewhere() -> None:
    asked = {host.name: bootstrap.settings(FLEET, host, [])["askers"] for host in FLEET.hosts}
    assert asked == {"a": ["hitmesh-operator", "hitmesh-scaler"], "b": ["hitmesh-operator"]}


@pytest.mark.parametrize(
    ("old", "new", "restarted"),
    [
        ("max = 4", "max = 5", {"scaler-1"}),
        ("[nodes.b]", "[nodes.b]\ncollector = 2", {"scaler-1"}),
        ("[deploy]", "[deploy]\nbake_s = 1.0", set()),
    ],
)
def test_a_scaler_is_restarted_for_its_bounds_and_for_how_many_there_are(
    old: str, new: str, restarted: set[str]
) -> None:
    text = 'name = "dc"\n[nodes.a]\nscaler = 1\n[nodes.b]\n[scaler.collector]\nmax = 4\n[deploy]\n'
    ones = [one for _, one in FLEET.in_order(["collector-3"])]
    assert {one.name for one in ones if sees(text, one) != sees(text.replace(old, new), one)} == restarted


def test_a_standstill_stops_the_scaler_first_and_what_it_has_started() -> None:
    stopped: list[str] = []
    desk: Any = SimpleNamespace(
        fleet=FLEET,
        facts=lambda: {"a": facts(up={"collector-3": OLD}, current={"collector-4": OLD}), "b": B},
        tell=lambda _: None,
        hosts={name: SimpleNamespace(stop=stopped.append) for name in ("a", "b")},
    )
    assert "collector-3" in standstill.running(desk)
    standstill.stop(desk)
    assert stopped[0] == "scaler-1"
    assert "collector-3" in stopped
    assert "collector-4" not in stopped
    assert set(standstill.running(desk)) == set(stopped)

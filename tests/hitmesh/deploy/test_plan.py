from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import pytest

from hitmesh import config as settings
from hitmesh.config import Config
from hitmesh.deploy.facts import Facts, Release, Running, off_s
from hitmesh.deploy.files import File
from hitmesh.deploy.fleet import SEES, Fleet
from hitmesh.deploy.paths import config_path, program_path
from hitmesh.deploy.plan import Asked, Step, make_plan, problems

OLD, NEW = "0.1.0-aaaa", "0.2.0-bbbb"
RELEASE = Release(id=NEW, version="0.2.0", python="3.11", platform="linux_x86_64", wheels={})
FILE = File(path=config_path("dc"), text="name = 'dc'")
EVERYTHING = Asked()
SEEN = "5e" * 32


def config(**more: Any) -> Config:
    one = {"nexus": 1, "processor": 1, "collector": 1, "balancer": 1}
    nodes = {"a": {"address": "10.0.0.1", **one}, "b": {"address": "10.0.0.2", **one}}
    data = {"name": "dc", "insecure": True, "ports": {"balancer_admin": 0}, "nodes": nodes, "deploy": {"bake_s": 5}}
    return settings.parse({**data, **more}, source="test")


FLEET = Fleet.of(config())


def facts(host: str, runs: str = OLD, **more: Any) -> Facts:
    names = [one.name for one in FLEET.host(host).instances]
    said = {
        "python": "3.11.2", "platform": "linux_x86_64", "system": "0.2.0", "clock": 0.0, "free_bytes": 10**10,
        "releases": [runs], "current": dict.fromkeys(names, runs), "configs": dict.fromkeys(names, SEEN),
        "files": {FILE.path: FILE.digest}, "programs": [Running(name=name, state="RUNNING", pid=7) for name in names],
    }  # fmt: skip
    return Facts(**{**said, **more})


def planned(
    a: Facts, b: Facts, asked: Asked = EVERYTHING, fleet: Fleet = FLEET, files: Sequence[File] = (FILE,)
) -> list[Step]:
    return make_plan(fleet, NEW, {"a": a, "b": b}, {"a": files, "b": files}, asked)


def texts(steps: Sequence[Step]) -> list[str]:
    return [str(step) for step in steps]


def test_a_new_release_is_copied_then_changes_a_canary_of_each_role_then_the_others() -> None:
    arrow = f"{OLD} -> {NEW}"
    assert texts(planned(facts("a"), facts("b"))) == [
        f"a: copy release {NEW}",
        f"b: copy release {NEW}",
        f"a: drain and restart nexus-1, {arrow}",
        f"a: drain and restart processor-1, {arrow}",
        f"a: drain and restart collector-1, {arrow}",
        f"a: drain and restart balancer-1, {arrow}",
        "watch nexus-1, processor-1, collector-1, balancer-1 for 5 s",
        f"b: drain and restart nexus-2, {arrow}",
        f"b: drain and restart processor-2, {arrow}",
        f"b: drain and restart collector-2, {arrow}",
        f"b: drain and restart balancer-2, {arrow}",
    ]


def test_a_second_deploy_of_the_same_has_no_step() -> None:
    assert planned(facts("a", NEW), facts("b", NEW)) == []


def test_a_deploy_that_died_half_way_is_finished() -> None:
    half = facts("b", NEW, current={**facts("b", NEW).current, "balancer-2": OLD}, releases=[OLD, NEW])
    assert texts(planned(facts("a", NEW), half)) == [
        f"b: drain and restart balancer-2, {OLD} -> {NEW}",
        "watch balancer-2 for 5 s",
    ]


def test_hosts_where_nothing_runs_yet_are_filled_and_waited_for() -> None:
    empty: dict[str, Any] = {"releases": [], "current": {}, "configs": {}, "files": {}, "programs": []}
    steps = texts(planned(facts("a", **empty), facts("b", **empty)))
    assert steps[:2] == [f"a: copy release {NEW}", f"b: copy release {NEW}"]
    assert steps.index(f"a: nexus-1 is new and gets {NEW}") < steps.index(f"a: write {FILE.path}")
    assert steps[-2:] == [f"b: balancer-2 starts with {NEW}", "wait until every instance and partition is there"]


def test_whoever_has_an_old_configuration_is_restarted() -> None:
    program = File(path=program_path("dc", "collector-2"), text=f'environment = {SEES}="{SEEN}"\n')
    same = facts("b", NEW, files={FILE.path: FILE.digest, program.path: program.digest})
    old = msgspec.structs.replace(same, configs={**same.configs, "collector-2": "other"})
    both = {"a": [FILE], "b": [FILE, program]}
    assert make_plan(FLEET, NEW, {"a": facts("a", NEW), "b": same}, both, EVERYTHING) == []
    assert texts(make_plan(FLEET, NEW, {"a": facts("a", NEW), "b": old}, both, EVERYTHING))[0] == (
        "b: drain and restart collector-2, again (its configuration has changed)"
    )


def test_whoever_is_down_is_restarted() -> None:
    down = [
        Running(name=one.name, state="FATAL" if one.role == "nexus" else "RUNNING", pid=7)
        for one in FLEET.hosts[1].instances
    ]
    assert texts(planned(facts("a", NEW), facts("b", NEW, programs=down)))[0] == (
        "b: drain and restart nexus-2, again (it is fatal)"
    )


def test_one_host_or_one_role_leaves_the_others_alone() -> None:
    assert {step.host for step in planned(facts("a"), facts("b"), Asked(only="b")) if hasattr(step, "host")} == {"b"}
    changed = [text for text in texts(planned(facts("a"), facts("b"), Asked(roles=["collector"]))) if "restart" in text]
    assert [text.split()[4] for text in changed] == ["collector-1,", "collector-2,"]


def test_a_name_that_goes_to_another_host_is_stopped_there_before_it_starts_here() -> None:
    nodes = {"a": {"address": "10.0.0.1", "nexus": 1, "processor": 1, "collector": 2, "balancer": 1},
             "b": {"address": "10.0.0.2", "nexus": 1, "processor": 1, "collector": 1, "balancer": 1}}  # fmt: skip
    steps = texts(planned(facts("a", NEW), facts("b", NEW), fleet=Fleet.of(config(nodes=nodes))))
    assert steps[0] == "b: drain and stop collector-2"
    assert f"a: collector-2 is new and gets {NEW}" in steps
    assert f"b: collector-3 is new and gets {NEW}" in steps


def test_a_program_of_an_instance_that_is_gone_loses_its_file() -> None:
    extra = "/var/lib/hitmesh/supervisor.d/collector-9.conf"
    gone = facts("b", NEW, files={FILE.path: FILE.digest, extra: "x"})
    assert texts(planned(facts("a", NEW), gone)) == [f"b: remove {extra}"]


def test_a_file_without_text_is_not_to_be_there() -> None:
    none = [FILE, File(path="/etc/sysctl.d/60-hitmesh.conf", text="")]
    assert planned(facts("a", NEW), facts("b", NEW), files=none) == []


def test_what_runs_beside_the_instances_is_started_and_again_when_its_file_has_changed() -> None:
    path = "/var/lib/hitmesh/supervisor.d/dc-keepalived-1.conf"
    files = [FILE, File(path=path, text="new")]
    assert texts(planned(facts("a", NEW), facts("b", NEW), files=files))[-2:] == [
        "a: start keepalived-1",
        "b: start keepalived-1",
    ]
    beside = Running(name="keepalived-1", state="RUNNING", pid=8)

    def served(host: str, known: dict[str, str]) -> Facts:
        return facts(host, NEW, programs=[*(facts(host).programs or ()), beside], files=known)

    old, same = {FILE.path: FILE.digest, path: "old"}, {one.path: one.digest for one in files}
    assert texts(planned(served("a", old), served("b", old), files=files))[-1] == "b: restart keepalived-1"
    assert planned(served("a", same), served("b", same), files=files) == []


def test_old_releases_are_removed_but_for_the_last_and_those_that_run() -> None:
    old = [f"0.1.{n}-aaaa" for n in range(6)]
    steps = planned(facts("a", NEW), facts("b", NEW, releases=[*old, NEW]))
    assert texts(steps) == [f"b: remove release {id_}" for id_ in old[:3]]


@pytest.mark.parametrize(
    ("more", "problem"),
    [
        ({"python": "3.9.2"}, "b: its Python is 3.9.2, and the release is for 3.11"),
        ({"platform": "linux_aarch64"}, "b: it is linux_aarch64, and the release is for linux_x86_64"),
        ({"off_s": 3600.0}, "b: its clock is 3600 s ahead of this machine's: is NTP at work?"),
        ({"off_s": -3600.0}, "b: its clock is 3600 s behind this machine's: is NTP at work?"),
        ({"free_bytes": 2**20}, "b: 1 MB are free for a release, which takes 80"),
        ({"programs": None}, "b: its supervisord doesn't answer: `fab bootstrap:dc=dc` starts it"),
    ],
)
def test_nothing_is_planned_for_a_host_that_is_not_as_it_must_be(more: dict[str, Any], problem: str) -> None:
    assert problems(FLEET, RELEASE, {"a": facts("a"), "b": facts("b", **more)}) == [problem]
    assert problems(FLEET, RELEASE, {"a": facts("a"), "b": facts("b")}) == []


@pytest.mark.parametrize(("clock", "off"), [(10.0, 0.0), (14.0, 0.0), (9.0, -1.0), (3615.0, 3600.0)])
def test_a_clock_is_off_by_what_the_time_of_the_question_cannot_explain(clock: float, off: float) -> None:
    assert off_s(clock, asked=10.0, answered=15.0) == off

"""What the Nexuses and supervisord know, put together."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec
import pytest

from hitmesh import config as settings
from hitmesh.cli import folder
from hitmesh.cli.picture import Shown, as_json, ask, is_silent, merge, missing, table
from hitmesh.cli.supervision import STOP_ORDER
from hitmesh.config import ROLES, Balancer
from hitmesh.mesh.lookup import Lookups
from hitmesh.protocol.messages import Answer, Instance, Seen, make
from hitmesh.supervisord import Supervised, split_name

CONFIG = settings.load(folder.shipped("config/dev.toml"))
NOW_MS = 1_000_000


def seen(name: str, *, alive: bool = True, age_ms: int = 100, pid: int = 1, **changes: Any) -> Seen:
    role = changes.get("role", name.rsplit("-", 1)[0])
    instance = Instance(
        dc="dev",
        role=role,
        name=name,
        id=f"{name}-{pid}",
        state=changes.get("state", "up"),
        pid=pid,
        started_ms=changes.get("started_ms", NOW_MS - 5_000),
        endpoints={},
        load=changes.get("load", {}),
        owns=changes.get("owns", {}),
    )
    return Seen(instance, 3, age_ms, alive)


def answer(*instances: Seen) -> Answer:
    return make(Answer, 1, "", "nexus", 1, True, instances)


def supervised(full_name: str, state: str = "RUNNING", pid: int = 7) -> Supervised:
    return Supervised(full_name, state, pid, 9.0, "")


def merge_at(dc: str, known: Answer | None, programs: Iterable[Supervised]) -> list[Shown]:
    return merge(dc, known, programs, NOW_MS, heartbeat_s=1.0)


def shown(known: Answer | None, *programs: Supervised) -> dict[str, Mapping[str, Any]]:
    return {each.name: as_json(each) for each in merge_at("dev", known, programs)}


def test_an_instance_is_shown_as_both_know_it() -> None:
    found = shown(answer(seen("collector-1", pid=8, load={"accepted": 3.0})), supervised("dev-collector-1"))
    assert found["collector-1"] == {
        "dc": "dev",
        "role": "collector",
        "name": "collector-1",
        "version": "0.1.0",  # of an instance that doesn't say
        "pid": 8,
        "state": "up",
        "why": "",
        "uptime_s": 5.0,
        "heartbeat_age_s": 0.1,
        "load": {"accepted": 3.0},
        "supervisor_pid": 7,
        "supervisor_state": "RUNNING",
    }


@pytest.mark.parametrize("hours", [-3, 0, 2])
def test_how_long_it_has_been_up_does_not_depend_on_its_clock(hours: int) -> None:
    one = seen(
        "collector-1", started_ms=NOW_MS - 5_000 + hours * 3_600_000, load={"up_s": 5.0, "hits": 1.0}, age_ms=100
    )
    found = shown(answer(one))["collector-1"]
    assert (found["uptime_s"], found["load"]) == (5.1, {"hits": 1.0})


def test_nobody_has_been_up_for_less_than_no_time() -> None:
    one = seen("collector-1", load={"up_s": -5.0}, age_ms=100)
    assert shown(answer(one))["collector-1"]["uptime_s"] == 0.1


def test_an_instance_that_was_started_by_hand_is_shown() -> None:
    found = shown(answer(seen("collector-9", pid=8)))
    assert (found["collector-9"]["pid"], found["collector-9"]["supervisor_pid"]) == (8, None)


@pytest.mark.parametrize(("state", "pid", "shown_pid"), [("STARTING", 7, 7), ("STOPPED", 0, None), ("FATAL", 0, None)])
def test_a_process_without_a_heartbeat_is_shown_with_supervisords_word(
    state: str, pid: int, shown_pid: int | None
) -> None:
    found = shown(answer(), supervised("dev-processor-1", state, pid))["processor-1"]
    assert (found["state"], found["pid"], found["heartbeat_age_s"]) == (state.lower(), shown_pid, None)


@pytest.mark.parametrize(("age_s", "up_s", "state"), [(9.0, 20.0, "dead"), (9.0, 3.0, "starting"), (9.0, 7.0, "dead")])
def test_a_process_whose_heartbeats_stopped_is_dead_unless_another_one_starts(
    age_s: float, up_s: float, state: str
) -> None:
    runs = Supervised("dev-processor-1", "RUNNING", 7, up_s, "")
    found = shown(answer(seen("processor-1", alive=False, age_ms=int(age_s * 1000))), runs)["processor-1"]
    assert (found["state"], found["pid"], found["heartbeat_age_s"]) == (state, 7, age_s)


@pytest.mark.parametrize(("up_s", "state"), [(2.0, "starting"), (20.0, "dead")])
def test_a_process_that_was_never_heard_starts_for_a_while(up_s: float, state: str) -> None:
    found = shown(answer(), Supervised("dev-processor-1", "RUNNING", 7, up_s, ""))["processor-1"]
    assert found["state"] == state


@pytest.mark.parametrize(("age_ms", "state"), [(1_400, "up"), (1_600, "silent")])
def test_one_whose_heartbeats_are_missing_is_silent(age_ms: int, state: str) -> None:
    known = answer(seen("collector-1", age_ms=age_ms))
    assert shown(known)["collector-1"]["state"] == state
    assert is_silent(known, 1.0) == (state == "silent")


def test_a_dead_instance_that_nobody_supervises_is_dead() -> None:
    found = shown(answer(seen("collector-9", alive=False, age_ms=9_000)))["collector-9"]
    assert (found["state"], found["pid"], found["uptime_s"]) == ("dead", None, None)


def test_a_dead_predecessor_gives_way_to_the_living() -> None:
    known = answer(seen("collector-1", alive=False, pid=1), seen("collector-1", pid=2))
    found = merge_at("dev", known, [supervised("dev-collector-1")])
    assert [(each.state, each.pid) for each in found] == [("up", 2)]


def test_a_draining_instance_says_so() -> None:
    assert shown(answer(seen("collector-1", state="draining")))["collector-1"]["state"] == "draining"


def test_an_instance_that_cant_do_its_work_says_why() -> None:
    found = answer(seen("collector-1", state="failing: a put has been under way for 15 s", load={"jobs": 2.0}))
    assert shown(found)["collector-1"]["state"] == "failing"
    assert shown(found)["collector-1"]["why"] == "a put has been under way for 15 s"
    line = table(merge_at("dev", found, [])).splitlines()[1]
    assert line.split()[2] == "failing"
    assert line.endswith("(a put has been under way for 15 s) jobs=2")


def test_without_a_nexus_supervisord_has_the_word() -> None:
    assert shown(None, supervised("dev-collector-1"))["collector-1"]["state"] == "running"


def test_other_datacenters_programs_are_not_shown() -> None:
    assert shown(None, supervised("other-collector-1")) == {}


def test_instances_are_in_order_of_role_and_number() -> None:
    names = ["balancer-1", "collector-10", "collector-2", "consul-1", "nexus-1", "processor-1"]
    found = merge_at("dev", None, [supervised(f"dev-{name}") for name in names])
    assert [each.name for each in found] == [
        "nexus-1",
        "processor-1",
        "collector-2",
        "collector-10",
        "balancer-1",
        "consul-1",
    ]


def test_a_table_has_a_line_per_instance() -> None:
    found = merge_at("dev", answer(seen("collector-1", load={"accepted": 3.0, "acked": 0.0})), [])
    lines = [line.split() for line in table(found).splitlines()]
    assert lines[0] == ["DC", "NAME", "STATE", "PID", "UPTIME", "HEARTBEAT", "VERSION", "LOAD"]
    assert lines[1] == ["dev", "collector-1", "up", "1", "5", "s", "0.1", "s", "ago", "0.1.0", "accepted=3"]


@pytest.mark.parametrize(
    ("told", "words"), [({"compiled": 1.0}, "compiled"), ({"compiled": 0.0}, "interpreted"), ({}, "")]
)
def test_a_table_says_of_each_release_whether_it_is_compiled(told: dict[str, float], words: str) -> None:
    found = merge_at("dev", answer(seen("collector-1", load={"accepted": 3.0, **told})), [])
    assert table(found).splitlines()[1].split()[9:] == ["0.1.0", *words.split(), "accepted=3"]


def everybody(owned: int) -> Answer:
    names = [placement.name for role in ROLES for placement in CONFIG.instances(role)]
    owns = dict.fromkeys(range(owned), 1)
    return answer(*(seen(name, owns=owns if name == "processor-1" else {}) for name in names))


def test_nothing_is_missing_when_all_are_alive_and_every_partition_is_owned() -> None:
    assert missing(CONFIG, everybody(32)) == []


def test_partitions_without_an_owner_are_missing() -> None:
    assert missing(CONFIG, everybody(30)) == ["owners of 2 of 32 partitions"]


def test_a_dead_instance_is_missing() -> None:
    instances = [seen for seen in everybody(32).seen if seen.instance.name != "collector-2"]
    assert missing(CONFIG, answer(*instances, seen("collector-2", alive=False))) == ["collector-2"]


def test_a_dead_processor_owns_nothing() -> None:
    dead = seen("processor-9", alive=False, owns={31: 1})
    assert missing(CONFIG, answer(*everybody(31).seen, dead)) == ["owners of 1 of 32 partitions"]


def test_without_a_nexus_everything_is_missing() -> None:
    assert len(missing(CONFIG, None)) == 10


def test_every_worker_of_a_balancer_must_heartbeat() -> None:
    several = msgspec.structs.replace(CONFIG, balancer=Balancer(workers=3))
    assert missing(several, everybody(32)) == ["balancer-1-w1", "balancer-1-w2"]
    heard = answer(*everybody(32).seen, seen("balancer-1-w1", role="balancer"), seen("balancer-1-w2", role="balancer"))
    assert missing(several, heard) == []


def test_further_workers_of_a_balancer_are_shown_with_its_supervisor() -> None:
    known = answer(seen("balancer-1", pid=8), seen("balancer-1-w1", role="balancer", pid=9))
    found = shown(known, supervised("dev-balancer-1"))
    assert list(found) == ["balancer-1", "balancer-1-w1"]
    assert [(each["role"], each["pid"], each["supervisor_pid"]) for each in found.values()] == [
        ("balancer", 8, 7),
        ("balancer", 9, 7),
    ]


def test_of_a_balancer_that_is_stopped_one_line_is_left() -> None:
    known = answer(seen("balancer-1", alive=False), seen("balancer-1-w1", role="balancer", alive=False))
    found = shown(known, supervised("dev-balancer-1", "STOPPED", 0))
    assert {name: each["state"] for name, each in found.items()} == {"balancer-1": "stopped"}


def test_a_programs_name_is_its_datacenter_and_instance() -> None:
    assert split_name("eu-west-2-collector-12") == ("eu-west-2", "collector-12")


def test_every_kind_of_program_has_its_turn_to_stop() -> None:
    stopped = [role for roles in STOP_ORDER for role in roles]
    shipped = {path.stem for path in folder.shipped("supervisor/supervisord.conf").parent.glob("*.conf")}
    assert set(stopped) == shipped - {"supervisord"}


def test_what_a_nexus_tells_of_other_datacenters_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    own, far = seen("processor-1"), seen("processor-2")
    far = msgspec.structs.replace(far, instance=msgspec.structs.replace(far.instance, dc="far"))
    monkeypatch.setattr(Lookups, "snapshot", lambda self: answer(own, far))
    found = ask(CONFIG)
    assert found is not None
    assert found.seen == (own,)

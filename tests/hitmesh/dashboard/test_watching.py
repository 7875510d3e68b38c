"""A Watch over a real picture of the mesh and real files: what the part and the status say."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import gevent
import pytest

from hitmesh.config import Config, Node, Timing
from hitmesh.dashboard.orphans import HANDED_OVER_S
from hitmesh.dashboard.problems import MADE_S
from hitmesh.dashboard.status import Part
from hitmesh.dashboard.watching import Watch
from hitmesh.mesh.room import Room
from hitmesh.protocol.messages import Answer, Instance, Seen, make
from hitmesh.settings import Edition
from hitmesh.settings.live import Live
from hitmesh.settings.sqlite import SqliteSettings
from hitmesh.state.view import MeshView
from hitmesh.store.sqlite import SqliteTotals
from tests.hitmesh.dashboard.seen import instance
from tests.services import wait_for

CONFIG = Config(
    name="eu",
    nodes={"a": Node(address="127.0.0.1", nexus=1, processor=1, collector=2)},
    partitions=2,
    timing=Timing(heartbeat_s=1.0),
)
COUNTS = {"accepted": 5.0, "acked": 5.0, "unknown": 0.0, "jobs": 0.0, "unacked_s": 2.0}


class Stage:
    """A Watch, and the one Nexus that it hears."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.live = Live(CONFIG, SqliteSettings(folder / "settings.db"))
        self.live.take({})
        self.watch = Watch(CONFIG, state_dir=folder, name="dashboard-1", live=self.live, room=Room(folder))
        self.view = MeshView(["n1"], dc="eu", timeout_s=3.0)
        self.now, self.number = time.monotonic(), 0

    def hear(self, *living: Instance, dead: tuple[Instance, ...] = (), after_s: float = 0.5) -> None:
        """A Nexus tells all it knows; everybody has just sent a heartbeat."""
        self.now += after_s
        self.number += 1
        seen = [Seen(one, self.number, 0, True) for one in living] + [Seen(one, 1, 3100, False) for one in dead]
        self.view.answer("n1", make(Answer, 0, "", "n1.x", self.number, True, tuple(seen)), self.now)

    def part(self) -> Part:
        return self.watch.part(self.view, self.now, time.time())


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    made = Stage(tmp_path)
    yield made
    made.watch.stop()


N1, P1 = instance("nexus-1"), instance("processor-1", owns={0: 1, 1: 1}, load={"pages": 3.0, "age_s.us": 0.4})
C1, C2 = instance("collector-1", load=COUNTS), instance("collector-2", load=COUNTS)


def test_a_part_has_what_the_mesh_says(stage: Stage) -> None:
    stage.hear(N1, P1, C1, C2)
    part = stage.part()
    assert [(row.name, row.state, row.node) for row in part.instances] == [
        ("nexus-1", "up", "a"), ("processor-1", "up", "a"), ("collector-1", "up", "a"), ("collector-2", "up", "a")
    ]  # fmt: skip
    assert list(part.store.owners) == ["processor-1", "processor-1"]
    assert part.store.commit_lag_s == 2.0
    assert [(link.key, link.state) for link in part.links] == [("us>eu", "cut")], (
        "its rows are here, and nobody is heard"
    )
    status = stage.watch.status({}, stage.now, time.time())
    assert {dc: each.state for dc, each in status.dcs.items()} == {"eu": "up"}


def test_a_death_is_an_event_a_problem_a_letter_and_a_reason(stage: Stage) -> None:
    stage.hear(N1, P1, C1, C2)
    stage.part()
    stage.hear(N1, P1, C1, dead=(C2,))
    stage.part()
    stage.hear(N1, P1, C1, dead=(C2,), after_s=1.0)
    part = stage.part()
    assert [(each.kind, each.who) for each in part.events] == [("died", "collector-2")]
    assert "collector-2 of eu is dead: its heartbeats stopped" in [each.says for each in part.problems]
    row = next(row for row in part.instances if row.name == "collector-2")
    assert (row.hour[-1], row.days[-1]) == ("x", "x")
    (reason,) = stage.watch.history("eu", "collector-2") or []
    assert (reason["state"], reason["why"]) == ("dead", "its heartbeats stopped")
    assert stage.watch.history("eu", "nobody") is None
    assert stage.watch.history("us", "collector-2") is None


def test_the_past_is_there_after_a_restart(stage: Stage, tmp_path: Path) -> None:
    stage.hear(N1, P1, C1, C2)
    stage.part()
    stage.hear(N1, P1, C1, dead=(C2,))
    first = stage.part()
    stage.watch.stop()
    again = Stage(tmp_path)
    again.watch.start()
    again.hear(N1, P1, C1, dead=(C2,))
    part = again.part()
    assert part.events[0] == first.events[0]
    rows = {row.name: row for row in part.instances}
    assert rows["collector-2"].hour[-1] == "x"
    assert rows["collector-2"].since == next(row.since for row in first.instances if row.name == "collector-2")
    again.watch.stop()


def test_a_setting_is_an_event_with_who_set_it(stage: Stage) -> None:
    stage.hear(N1, P1, C1, C2)
    stage.part()
    stage.live.take({"timing.commit_s": Edition("timing.commit_s", b"0.5", 1, "ann", 0.0)})
    assert [(each.kind, each.who, each.says) for each in stage.part().events] == [
        ("set", "ann", "timing.commit_s is 0.5")
    ]


def test_a_page_that_is_none_is_none_and_a_store_that_is_none_a_reason(stage: Stage) -> None:
    assert stage.watch.page("/nothing\x00") is None
    found = stage.watch.page("example.com/front")
    assert found is not None
    assert (found.total, found.dc, found.instance) == (None, "eu", "dashboard-1")
    assert "the file is gone" in found.why


OWNER = instance("processor-1", owns={0: 1, 1: 1})


def bad(part: Part) -> list[str]:
    return [each.key for each in part.problems if each.level == "bad"]


def turned() -> bool:
    """The watch's greenlets have had a turn."""
    gevent.sleep(0.01)
    return True


def until_looked(stage: Stage) -> None:
    """The watch has looked at its store."""
    stage.watch.start()
    wait_for(lambda: turned() and stage.part().store.why, what="a look at the store")


def test_a_fresh_mesh_whose_processors_start_is_not_called_bad(stage: Stage) -> None:
    until_looked(stage)
    stage.hear(N1, C1, C2)
    assert bad(stage.part()) == [], "its processor hasn't come yet"
    stage.hear(N1, instance("processor-1", load={"uptime_s": 0.2}), C1, C2)
    part = stage.part()
    assert bad(part) == [], "its processor has no partition yet, and no file"
    assert part.store.absent


def test_a_store_that_is_not_there_though_a_processor_works_is_bad(stage: Stage) -> None:
    until_looked(stage)
    stage.hear(N1, OWNER, C1, C2)
    assert bad(stage.part()) == [], "it may have made it just now"
    stage.hear(N1, OWNER, C1, C2, after_s=1.4)
    stage.part()
    stage.hear(N1, OWNER, C1, C2, after_s=MADE_S - 1.0)
    assert bad(stage.part()) == ["eu store"]


def test_a_store_that_was_there_and_is_gone_is_bad_at_once_though_processors_start(stage: Stage) -> None:
    store = SqliteTotals(stage.folder / "totals.db")
    store.read({})
    store.close()
    stage.watch.start()
    wait_for(lambda: turned() and stage.watch._counting.ledger.looks, what="a look at the store")
    (stage.folder / "totals.db").unlink()
    stage.hear(N1, C1, C2)
    wait_for(lambda: turned() and bad(stage.part()) == ["eu store"], what="the dashboard to say so")


def test_a_partition_without_an_owner_is_bad_when_it_was_not_just_handed_over(stage: Stage) -> None:
    SqliteTotals(stage.folder / "totals.db").read({})
    half = instance("processor-1", owns={0: 1})
    stage.hear(N1, OWNER, C1, C2)
    stage.part()
    for handed in (0, 1, 0, 1):  # each is nobody's for a while, one after the other
        stage.hear(N1, instance("processor-1", owns={handed: 1}), C1, C2, after_s=HANDED_OVER_S * 0.7)
        assert bad(stage.part()) == []
    for _ in range(8):
        stage.hear(N1, half, C1, C2, after_s=0.5)
        part = stage.part()
        if bad(part):
            break
    assert bad(part) == ["eu owners"]
    assert list(part.store.orphans) == [1]

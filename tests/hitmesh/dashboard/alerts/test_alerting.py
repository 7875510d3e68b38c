"""Alerting as dashboards run it, on a real settings store, through a real web server and a real mail server."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import gevent
import pytest
from msgspec.structs import replace

from hitmesh.config import Config, Node
from hitmesh.config.alerts import RULES, Alerts, Mail, Rules, Webhook
from hitmesh.dashboard.alerts import alerting, dead_man, machine, outbox
from hitmesh.dashboard.alerts.alerting import Alerting
from hitmesh.dashboard.alerts.memory import Firing, Memory, decode, encode, key_of
from hitmesh.dashboard.alerts.silences import MAX_SHOWN, value_of
from hitmesh.dashboard.alerts.silences import key_of as silence_key
from hitmesh.dashboard.status import Books, Datacenter, Hits, Instance, Part, Problem, Spool, State
from hitmesh.errors import StoreUnknown
from hitmesh.protocol.messages import Answer, Seen, make
from hitmesh.settings import Edition
from hitmesh.settings.live import Live
from hitmesh.settings.sqlite import SqliteSettings
from hitmesh.state.view import MeshView
from tests.hitmesh.dashboard.seen import instance, row
from tests.hitmesh.patience import until
from tests.services import free_port
from tests.services.receivers import Hook, Mailbox, texts

HITS = Hits(count=1)
CLEAR_S = 0.15


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same in a fiftieth of the time."""
    for module, name, seconds in (
        (alerting, "STEP_S", 0.02),
        (alerting, "ALONE_S", 0.2),
        (alerting, "AGAIN_S", 0.06),
        (alerting, "FRESH_S", 60.0),
        (machine, "CLEAR_S", CLEAR_S),
        (machine, "BEAT_S", 0.2),
        (machine, "CLAIM_S", 1.0),
        (outbox, "LONGEST_PAUSE_S", 0.1),
        (dead_man, "STEP_S", 0.02),
    ):
        monkeypatch.setattr(module, name, seconds)
    monkeypatch.setattr(outbox.Outbox.__init__, "__kwdefaults__", {"pause_s": 0.05, "try_s": 2.0})


def settings(**more: Any) -> Alerts:
    rules = Rules()
    quick_rules = {name: replace(getattr(rules, name), for_s=0.0) for name in RULES}
    return Alerts(**{"rules": Rules(**quick_rules), **more})


def config(alerts: Alerts) -> Config:
    node = Node(address="127.0.0.1", nexus=1, processor=1, collector=1, dashboard=2)
    return Config(name="eu", nodes={"a": node}, alerts=alerts)


def well(**what: Any) -> Part:
    spools = [Spool(key="a", name="a", depth=0, oldest_s=None)]
    return Part(
        **{"dc": "eu", "at": 0.0, "hits": HITS, "books": Books(balanced=True, age_s=0.0), "spools": spools, **what}
    )


def dcs(us: Any = "up") -> dict[str, Datacenter]:
    states: dict[str, Any] = {"eu": "up", "us": us}
    return {dc: Datacenter(key=dc, state=state, age_s=0.0, hits=HITS) for dc, state in states.items()}


class Desk:
    """One dashboard's alerting. What it is shown is `part` and `others`."""

    def __init__(self, folder: Path, alerts: Alerts, name: str = "dashboard-1", living: tuple[str, ...] = ()) -> None:
        self.store = SqliteSettings(folder / "settings.db", poll_s=0.02)
        self.name, self.part, self.others = name, well(), dcs()
        self.live = Live(config(alerts), self.store)
        self.live.start()
        self.alerting = Alerting(config(alerts), who=f"{name}.1", store=self.store, live=self.live)
        self.view = MeshView(["n1"], dc="eu", timeout_s=1e6)
        self.number = self.looks = 0
        self.hear(*(living or (name,)))
        self.alerting.start()
        self.looking = gevent.spawn(self._look)

    def hear(self, *dashboards: str) -> None:
        """These are the dashboards that live."""
        self.number += 1
        seen = tuple(Seen(instance(name), self.number, 0, True) for name in dashboards)
        self.view.answer("n1", make(Answer, 0, "", "n1.x", self.number, True, seen), time.monotonic())

    def _look(self) -> None:
        while True:
            self.alerting.look(self.part, self.others, self.view, time.monotonic(), time.time())
            self.looks += 1
            gevent.sleep(0.01)

    def steps(self, count: int) -> None:
        """Wait until it has judged so many times more."""
        for _ in range(count):
            before = self.alerting._judged_at
            until(lambda: self.alerting._judged_at > before, "another judgement")  # noqa: B023

    def show(self, part: Part, others: dict[str, Datacenter] | None = None) -> None:
        self.part, self.others = part, others or dcs()

    def kill(self) -> None:
        """It is gone without a word."""
        self.looking.kill()
        self.alerting.stop()
        self.live.stop()

    def firing(self) -> set[str]:
        return {each.name for each in self.alerting.shown(time.monotonic()).alerts if each.state == "firing"}


@pytest.fixture
def desks(tmp_path: Path) -> Iterator[Callable[..., Desk]]:
    made: list[Desk] = []

    def make_one(alerts: Alerts, name: str = "dashboard-1", living: tuple[str, ...] = ()) -> Desk:
        made.append(Desk(tmp_path, alerts, name, living))
        return made[-1]

    yield make_one
    for each in made:
        each.kill()


def rows(state: State = "up", **load: float) -> list[Instance]:
    return [row("balancer-1", state, load=load)]


BAD: Mapping[str, tuple[dict[str, Any], str]] = {
    "datacenter_silent": ({"others": dcs("dead")}, "datacenter us is out of reach from eu"),
    "books": ({"books": Books(balanced=False, off=3, age_s=0.0)}, "the books of eu are off by 3 hits"),
    "spool_deep": ({"spools": [Spool(key="a", name="a", depth=6000, oldest_s=None)]}, "6000 jobs wait"),
    "spool_old": (
        {"spools": [Spool(key="a", name="a", depth=1, oldest_s=99.0)]},
        "hits have waited in the spool of eu",
    ),
    "spool_copy": ({"spools": [Spool(key="a", name="a", depth=0, oldest_s=None, usable=False, why="EIO")]}, "EIO"),
    "disk": ({"instances": rows(disk_used=0.95)}, "the disk with the state folder of balancer-1 in eu is 95% full"),
    "hub_lag": ({"instances": rows(hub_lag_s=2.0)}, "balancer-1 of eu is too busy"),
    "certificate": ({"instances": rows(certificate_ends=9.0)}, "a certificate that balancer-1 of eu shows has ended"),
    "instance_dead": ({"instances": rows("dead")}, "balancer-1 of eu is dead"),
    "scaler": (
        {"problems": [Problem(key="eu scaler a-1", level="warn", kind="instance", dc="eu", says="stuck", since=0.0)]},
        "stuck",
    ),
    "errors": ({"instances": rows(requests=1000, failed=100)}, "10.0% of the answers of eu are errors"),
    "trouble": (
        {"problems": [Problem(key="eu store", level="bad", kind="store", dc="eu", says="no store", since=0.0)]},
        "no store",
    ),
}


def test_every_alert_fires_and_recovers_through_a_webhook_and_a_mail(hook: Hook, desks: Callable[..., Desk]) -> None:
    assert set(BAD) == set(RULES)
    box = Mailbox()
    mail = Mail(server=f"127.0.0.1:{box.port}", security="none", sender="a@example.com", to=("b@example.com",))
    desk = desks(settings(webhook=(Webhook(url=hook.url),), mail=mail))
    try:
        desk.show(well(instances=rows(requests=0, failed=0)))
        until(lambda: desk.alerting._judged_at > 0, "a first judgement")
        for rule, (what, says) in BAD.items():
            before = len(hook.alerts)
            desk.show(well(**{key: value for key, value in what.items() if key != "others"}), what.get("others"))
            until(lambda: len(hook.alerts) > before, f"{rule} to fire")  # noqa: B023
            fired = hook.alerts[before]
            assert (fired["kind"], fired["rule"]) == ("firing", rule)
            assert says in fired["says"]
            until(lambda: fired["id"] in texts(box), f"the mail of {rule}")  # noqa: B023
            count = len(box.mails)
            # A minute's share of errors goes as the minute does: here by what is answered well.
            desk.show(well(instances=rows(requests=1_000_000 if rule == "errors" else 0, failed=100)))
            until(lambda: len(hook.alerts) > before + 1, f"{rule} to recover")  # noqa: B023
            recovered = hook.alerts[before + 1]
            assert (recovered["kind"], recovered["id"]) == ("recovered", fired["id"])
            until(lambda: len(box.mails) > count, f"the mail of the recovery of {rule}")  # noqa: B023
            assert "recovered: " in box.mails[-1]["Subject"]
        assert len(hook.alerts) == 2 * len(RULES)
        assert len({each["id"] for each in hook.alerts}) == len(RULES)
    finally:
        desk.kill()
        box.close()


DISK = well(instances=rows(disk_used=0.95))


def test_of_two_dashboards_one_sends_and_when_it_dies_the_other_sends_the_recovery(
    hook: Hook, desks: Callable[..., Desk]
) -> None:
    both = ("dashboard-1", "dashboard-2")
    alerts = settings(webhook=(Webhook(url=hook.url),))
    first, second = desks(alerts, both[0], both), desks(alerts, both[1], both)
    for desk in (first, second):
        desk.show(DISK)
    until(lambda: hook.alerts and first.firing() == second.firing() == {"disk/balancer-1"}, "both to know")
    until(lambda: not decode(first.store.get(key_of("eu")).value).notices, "it to be done")  # type: ignore[union-attr]
    first.kill()
    second.hear("dashboard-2")
    second.show(well())
    until(lambda: len(hook.alerts) > 1, "the recovery")
    until(lambda: not second.firing(), "it to be over")
    assert [(each["kind"], each["number"]) for each in hook.alerts] == [("firing", 1), ("recovered", 2)]
    assert len({each["id"] for each in hook.alerts}) == 1


def test_two_that_both_think_they_lead_send_once(hook: Hook, desks: Callable[..., Desk]) -> None:
    alerts = settings(webhook=(Webhook(url=hook.url),))
    first, second = desks(alerts, "dashboard-1"), desks(alerts, "dashboard-2")
    for turn in range(3):
        for desk in (first, second):
            desk.show(DISK)
        until(lambda: first.firing() and second.firing(), "both to know")
        for desk in (first, second):
            desk.show(well())
        until(lambda: not first.firing() and not second.firing(), "both to know that it is over")
        until(lambda: len(hook.alerts) >= 2 * turn + 2, "the recovery")  # noqa: B023
    assert [each["kind"] for each in hook.alerts] == ["firing", "recovered"] * 3


def test_what_a_dashboard_had_not_sent_when_it_died_is_sent_by_the_other(
    hook: Hook, desks: Callable[..., Desk]
) -> None:
    both = ("dashboard-1", "dashboard-2")
    alerts = settings(webhook=(Webhook(url=hook.url),))
    hook.status = 503
    first, second = desks(alerts, both[0], both), desks(alerts, both[1], both)
    for desk in (first, second):
        desk.show(DISK)
    until(lambda: hook.alerts, "a try")
    first.kill()
    hook.status, tries = 200, len(hook.alerts)
    second.hear("dashboard-2")
    until(lambda: len(hook.alerts) > tries, "the other to try")
    assert {(each["id"], each["number"], each["kind"]) for each in hook.alerts} == {(hook.alerts[0]["id"], 1, "firing")}


def test_a_server_that_is_away_gets_its_notices_later_and_holds_up_no_other(
    hook: Hook, desks: Callable[..., Desk]
) -> None:
    port = free_port()
    mail = Mail(server=f"127.0.0.1:{port}", security="none", sender="a@example.com", to=("b@example.com",))
    desk = desks(settings(webhook=(Webhook(url=hook.url),), mail=mail))
    desk.show(DISK)
    until(lambda: hook.alerts, "the webhook, which is well")
    until(lambda: desk.alerting.shown(0.0).ways[1].failed >= 2, "a second try")
    ways = {each.key: each for each in desk.alerting.shown(0.0).ways}
    assert (ways["webhook 1"].sent, ways["webhook 1"].why) == (1, "")
    assert "refused" in ways["mail"].why
    later = time.monotonic() + alerting.TROUBLE_S + 60
    assert "refused" in desk.alerting.shown(later).troubles["mail"], "the dashboard says so when it has lasted"
    box = Mailbox(port=port)
    try:
        until(lambda: box.mails, "the mail")
        until(lambda: not desk.alerting.shown(time.monotonic()).ways[1].why, "all to be well")
        assert len(hook.alerts) == 1
    finally:
        box.close()


def test_what_cannot_be_sent_for_long_is_given_up_and_counted(
    hook: Hook, desks: Callable[..., Desk], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox, "GIVE_UP_S", 0.3)
    hook.status = 500
    desk = desks(settings(webhook=(Webhook(url=hook.url),)))
    desk.show(DISK)
    until(lambda: desk.alerting.shown(0.0).ways[0].lost == 1, "it to be given up")
    until(lambda: not decode(desk.store.get(key_of("eu")).value).notices, "nothing to be owed")  # type: ignore[union-attr]
    tries = len(hook.alerts)
    hook.status = 200
    desk.show(well())
    until(lambda: len(hook.alerts) > tries, "the next notice")
    assert hook.alerts[-1]["kind"] == "recovered"


class Away(SqliteSettings):
    """A store that can't be written, until it can."""

    is_away = True

    def set(self, key: str, value: bytes, *, author: str, expect_version: int | None = None) -> Any:
        if self.is_away:
            raise StoreUnknown("no leader", op="set")
        return super().set(key, value, author=author, expect_version=expect_version)


def test_without_the_settings_store_who_leads_goes_on_and_nothing_comes_twice_when_it_is_back(
    hook: Hook, desks: Callable[..., Desk], monkeypatch: pytest.MonkeyPatch
) -> None:
    both = ("dashboard-1", "dashboard-2")
    monkeypatch.setattr("tests.hitmesh.dashboard.alerts.test_alerting.SqliteSettings", Away)
    monkeypatch.setattr(Away, "is_away", True)
    alerts = settings(webhook=(Webhook(url=hook.url),))
    first, second = desks(alerts, both[0], both), desks(alerts, both[1], both)
    for desk in (first, second):
        desk.show(DISK)
    until(lambda: hook.alerts, "it to be told without a store")
    assert first.alerting.shown(time.monotonic() + 60).unagreed == "set: no leader"
    monkeypatch.setattr(Away, "is_away", False)
    until(lambda: (found := first.store.get(key_of("eu"))) and decode(found.value).firings, "it to be remembered")
    until(lambda: second.alerting._memory.firings, "the other to know")
    for desk in (first, second):
        desk.show(well())
    until(lambda: len(hook.alerts) > 1, "the recovery")
    assert [each["kind"] for each in hook.alerts] == ["firing", "recovered"]
    assert len({each["id"] for each in hook.alerts}) == 1


def test_what_was_told_alone_is_not_lost_to_what_others_wrote_meanwhile(
    hook: Hook, desks: Callable[..., Desk], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.hitmesh.dashboard.alerts.test_alerting.SqliteSettings", Away)
    monkeypatch.setattr(Away, "is_away", True)
    desk = desks(settings(webhook=(Webhook(url=hook.url),)))
    desk.show(DISK)
    until(lambda: hook.alerts, "it to be told without a store")
    theirs = Memory({"books": Firing(id="theirs", rule="books", level="bad", says="x", since=1.0, told=1, told_at=1.0)})
    monkeypatch.setattr(Away, "is_away", False)
    desk.store.set(key_of("eu"), encode(theirs), author="alerts")
    until(lambda: len(hook.alerts) > 1, "theirs to recover")
    assert (hook.alerts[1]["kind"], hook.alerts[1]["id"]) == ("recovered", "theirs")
    desk.show(well())
    until(lambda: len(hook.alerts) > 2, "ours to recover")
    assert [each["kind"] for each in hook.alerts if each["name"] == "disk/balancer-1"] == ["firing", "recovered"]


def test_a_silence_holds_for_both_and_ends_by_itself(hook: Hook, desks: Callable[..., Desk]) -> None:
    desk = desks(settings(webhook=(Webhook(url=hook.url),)))
    until(lambda: desk.live.known, "the settings")
    past = value_of(time.time() - 1, "")
    desk.store.merge(Edition(silence_key(f"books/{n}"), past, 1, "ann", 0.0) for n in range(MAX_SHOWN + 1))
    desk.store.set(silence_key("disk"), value_of(time.time() + 3600, "room is made"), author="ann")
    until(lambda: desk.alerting.shown(0.0).silences, "the silence to be seen")
    desk.show(DISK)
    until(lambda: [each.state for each in desk.alerting.shown(0.0).alerts] == ["silenced"], "it to be silenced")
    [held] = desk.alerting.shown(0.0).silences
    assert (held.who, held.why, hook.alerts) == ("ann", "room is made", [])
    desk.store.set(silence_key("disk"), value_of(time.time() - 1, ""), author="ann")
    until(lambda: hook.alerts, "it to be told")


def test_without_ways_nothing_is_sent_and_what_fires_is_shown_and_an_event(desks: Callable[..., Desk]) -> None:
    desk = desks(settings())
    until(lambda: desk.alerting._firings is not None, "the settings")
    desk.show(DISK)
    until(desk.firing, "it to fire")
    desk.show(well())
    until(lambda: len(desk.alerting._turns) == 2, "it to recover")
    assert [(each.name, each.says.partition(":")[0]) for each in desk.alerting.turns()] == [
        ("disk/balancer-1", "the disk with the state folder of balancer-1 in eu is 95% full"),
        ("disk/balancer-1", "recovered"),
    ]
    assert desk.alerting.shown(0.0).ways == []


def test_the_dead_man_is_called_while_all_is_well_and_not_when_something_bad_fires(
    hook: Hook, desks: Callable[..., Desk]
) -> None:
    desk = desks(settings(dead_man=f"{hook.url}ping", dead_man_s=0.03))
    until(lambda: len(hook.requests) >= 3, "three calls")
    assert hook.requests[0][:2] == ("GET", "/ping")
    desk.show(well(books=Books(balanced=False, age_s=0.0)))
    until(desk.firing, "it to fire")
    assert not desk.alerting._is_well()
    desk.steps(5)  # a call may have been under way
    count = len(hook.requests)
    desk.steps(15)
    assert len(hook.requests) == count
    desk.show(DISK)  # which is a warning
    until(lambda: len(hook.requests) > count, "calls again")
    assert desk.alerting.shown(0.0).ways[0].key == "dead man"


def test_the_dead_man_is_not_called_when_nobody_could_be_told(
    hook: Hook, desks: Callable[..., Desk], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(alerting, "UNTOLD_S", 0.1)
    webhook = Webhook(url=f"http://127.0.0.1:{free_port()}/")
    desk = desks(settings(webhook=(webhook,), dead_man=hook.url, dead_man_s=0.03))
    until(lambda: hook.requests, "a call")
    desk.show(DISK)
    until(lambda: not desk.alerting._is_well(), "it not to be well")


def test_before_a_nexus_is_heard_nothing_is_judged(desks: Callable[..., Desk]) -> None:
    desk = desks(settings())
    desk.view = MeshView(["n1"], dc="eu", timeout_s=1e6)
    desk.alerting._seen = None
    desk.show(DISK)
    looks = desk.looks
    until(lambda: desk.looks > looks + 20, "a few looks")
    assert not desk.alerting.shown(time.monotonic()).alerts


def test_what_is_remembered_is_json_that_people_can_read(hook: Hook, desks: Callable[..., Desk]) -> None:
    desk = desks(settings(webhook=(Webhook(url=hook.url),)))
    desk.show(DISK)
    until(lambda: hook.alerts and (found := desk.store.get(key_of("eu"))) and found.author == "alerts", "a memory")
    found = desk.store.get(key_of("eu"))
    assert found is not None
    assert "disk/balancer-1" in json.loads(found.value)["firings"]

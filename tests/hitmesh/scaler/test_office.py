"""Two scalers of a datacenter, on a real settings store: who decides, and whose word is written."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from hitmesh.errors import StoreUnknown
from hitmesh.scaler.office import LEASE_S, Office
from hitmesh.settings import Setting
from hitmesh.settings.live import Live
from hitmesh.settings.sqlite import SqliteSettings
from hitmesh.settings.wanted import Change, Wanted, key_of
from hitmesh.state.view import Sighting
from tests.hitmesh.dashboard.seen import instance, sighting
from tests.hitmesh.patience import until
from tests.hitmesh.scaler.world import configured

CONFIG = configured()
BOTH = [sighting(instance(f"scaler-{n}", id=f"scaler-{n}.aa"), 1, 0.0) for n in (1, 2)]


class Away(SqliteSettings):
    """A store that can be away."""

    away = False

    def set(self, key: str, value: bytes, *, author: str, expect_version: int | None = None) -> Setting:
        if self.away:
            raise StoreUnknown("it is away", op=f"set {key}")
        return super().set(key, value, author=author, expect_version=expect_version)


class Desk:
    """A scaler's side of it."""

    def __init__(self, folder: Path, who: str) -> None:
        self.store = Away(folder / "settings.db", poll_s=0.02)
        self.live = Live(CONFIG, self.store)
        self.office = Office("dc", who, self.store, self.live)
        self.live.start()

    def knows(self, wanted: Wanted | None) -> bool:
        return self.live.known and self.office.look(0.0) == wanted


@pytest.fixture
def desks(tmp_path: Path) -> Iterator[list[Desk]]:
    found = [Desk(tmp_path, f"scaler-{n}.aa") for n in (1, 2)]
    for desk in found:
        until(lambda desk=desk: desk.live.known, "the store to answer")  # type: ignore[misc]
    yield found
    for desk in found:
        desk.live.stop()
        desk.store.close()


def counted(number: int, **more: object) -> Wanted:
    return Wanted(counts={"a": {"collector": number, "processor": 1}}, **more)  # type: ignore[arg-type]


def test_of_two_that_decide_at_once_one_is_heard_and_the_other_begins_from_that(desks: list[Desk]) -> None:
    one, two = (desk.office for desk in desks)
    assert one.wanted is two.wanted is None
    assert (one.write(counted(2)), two.write(counted(5))) == (True, False)
    assert two.look(1.0) == counted(2, holder="scaler-1.aa")
    assert two.write(counted(3))
    until(lambda: desks[0].knows(counted(3, holder="scaler-2.aa")), "the first one to hear")


def test_the_first_by_name_decides_who_lives_and_isnt_a_dry_run(desks: list[Desk]) -> None:
    one, two = (desk.office for desk in desks)
    assert (one.is_first(BOTH, 0.0, 1.0), two.is_first(BOTH, 0.0, 1.0)) == (True, False)
    dead = sighting(BOTH[0].instance, 1, 0.0, alive=False)
    others: list[Sighting] = [
        dead,
        sighting(instance("scaler-1", id="scaler-1.aa", load={"dry_run": 1.0}), 1, 0.0),
        sighting(instance("scaler-1", id="scaler-1.aa", state="failing: its disk hangs"), 1, 0.0),
        sighting(instance("scaler-1", id="scaler-1.aa", state="draining"), 1, 0.0),
    ]
    for other in others:
        assert (one.is_first([other, BOTH[1]], 0.0, 1.0), two.is_first([other, BOTH[1]], 0.0, 1.0)) == (False, True)
    silent = sighting(BOTH[0].instance, 1, -3.1)
    assert (one.is_first([silent, BOTH[1]], 0.0, 1.0), two.is_first([silent, BOTH[1]], 0.0, 1.0)) == (False, True)
    assert not one.is_first([], 0.0, 1.0)


def test_who_has_written_has_the_lease_while_it_lives_and_for_a_while(desks: list[Desk]) -> None:
    one, two = (desk.office for desk in desks)
    assert two.leased_by(BOTH, 0.0) == ""
    one.write(counted(2))
    until(lambda: two.wanted is not None, "the second one to hear")
    two.look(100.0)
    assert (one.leased_by(BOTH, 100.0), two.leased_by(BOTH, 100.0)) == ("", "scaler-1")
    assert two.leased_by(BOTH, 100.0 + LEASE_S - 0.1) == "scaler-1"
    assert two.leased_by(BOTH, 100.0 + LEASE_S) == ""
    assert two.leased_by(BOTH[1:], 100.0) == "", "it is dead: nothing is lost by its word"


def test_a_store_that_is_away_is_said_once_and_nothing_is_agreed_upon(
    desks: list[Desk], caplog: pytest.LogCaptureFixture
) -> None:
    desk = desks[0]
    desk.store.away = True
    assert not desk.office.write(counted(2))
    assert not desk.office.write(counted(2))
    assert [r.getMessage() for r in caplog.records].count(caplog.records[0].getMessage()) == 1
    desk.store.away = False
    assert desk.office.write(counted(2))


def test_what_somebody_else_put_there_is_as_nothing_and_is_written_over(desks: list[Desk]) -> None:
    desks[0].store.set(key_of("dc"), b'{"counts": {"a": {"collector": 900}}}', author="mallory")
    until(lambda: key_of("dc") in desks[0].live.editions, "it to be heard")
    assert desks[0].office.look(0.0) is None
    assert desks[0].office.write(counted(2))


def test_a_hook_that_another_has_run_is_known(desks: list[Desk]) -> None:
    one, two = (desk.office for desk in desks)
    hook = Change(at=1_000_000.0, role="collector", node="", was=3, now=4, why="full")
    one.write(counted(2, changes=(hook,)))
    until(lambda: two.wanted is not None, "the second one to hear")
    assert two.hooked_at < 0
    two.look(50.0)
    two.look(60.0)
    assert two.hooked_at == 50.0

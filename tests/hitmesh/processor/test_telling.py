"""Answers to other datacenters' questions: when, with what, and as of what."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from hitmesh.processor import feed as feed_module
from hitmesh.processor.feed import Held
from hitmesh.processor.telling import Load
from hitmesh.protocol.messages import ERA, Chunk, Origin, Position, Wanted
from hitmesh.store import Row, Write
from tests.hitmesh.processor.datacenters import HELD_S, WALL_S, Datacenter, World


@pytest.fixture
def eu() -> Datacenter:
    """A datacenter with six rows, of commits 1 to 6."""
    world = World("eu")
    for number in range(1, 7):
        world["eu"].hit(f"s/{number}", number)
        world["eu"].steps()
    return world["eu"]


def question(commit: int | None, *, origin: str = "eu", ledger: str = "ledger.eu-1", number: int = 1) -> Held:
    have = None if commit is None else Position(ledger, 1, commit)
    return Held("us", "there", Wanted(0, origin, number, have), 10.0)


def ask(eu: Datacenter, held: Held, owner: str = "p1") -> list[Chunk]:
    eu.telling.asked(eu.partition, held, owner, WALL_S)
    return taken(eu)


def taken(eu: Datacenter) -> list[Chunk]:
    chunks, loads = eu.telling.take()
    assert not loads
    return chunks.get("there", [])


def forgotten(eu: Datacenter, monkeypatch: pytest.MonkeyPatch) -> Load:
    """Two rows are remembered of seven commits; what has to be read for a question about those from the fourth on."""
    monkeypatch.setattr(feed_module, "MAX_RECENT", 2)
    eu.hit("s/7")
    eu.steps()
    eu.telling.asked(eu.partition, question(3), "p1", WALL_S)
    _, (load,) = eu.telling.take()
    return load


def pages(chunk: Chunk) -> list[str]:
    return [row.page for row in chunk.rows]


def test_what_is_above_the_askers_commit_is_told_at_once(eu: Datacenter) -> None:
    (chunk,) = ask(eu, question(4, number=7))
    assert (chunk.number, pages(chunk), chunk.whole) == (7, ["s/5", "s/6"], True)
    assert chunk.state is not None
    assert chunk.state.position.commit == 6
    assert chunk.state.hits == 21
    assert chunk.state.lanes == eu.head.lanes


def test_a_question_without_news_is_held_and_then_answered_with_none(eu: Datacenter) -> None:
    ask(eu, question(6))
    assert ask(eu, question(6, number=2)) == []
    eu.telling.look(eu.partition, 10.0 + HELD_S - 0.01, WALL_S)
    assert taken(eu) == []
    eu.telling.look(eu.partition, 10.0 + HELD_S, WALL_S)
    (chunk,) = taken(eu)
    assert (chunk.number, chunk.state, chunk.whole, chunk.held_ms) == (2, None, True, int(HELD_S * 1000))
    eu.telling.look(eu.partition, 20.0, WALL_S)
    assert taken(eu) == []


def test_a_held_question_is_answered_by_the_next_commit(eu: Datacenter) -> None:
    ask(eu, question(6))
    ask(eu, question(6, number=2))
    eu.hit("s/new")
    step = eu.partition.step(WALL_S)
    assert isinstance(step, Write)
    eu.telling.committed(eu.partition, 10.1, WALL_S)
    assert taken(eu) == [], "told before it was committed"
    eu.partition.wrote(eu.store.write(step))
    eu.telling.committed(eu.partition, 10.2, WALL_S)
    (chunk,) = taken(eu)
    assert pages(chunk) == ["s/new"]


def test_the_first_question_of_an_instance_is_answered_at_once_even_without_news(eu: Datacenter) -> None:
    assert len(ask(eu, question(6))) == 1
    assert ask(eu, question(6)) == []
    assert len(ask(eu, question(6), "p2")) == 1


def test_of_another_history_only_its_place_is_told(eu: Datacenter) -> None:
    (chunk,) = ask(eu, question(1, ledger="other"))
    assert (chunk.rows, chunk.whole) == ((), False)
    assert chunk.state is not None
    assert chunk.state.position.ledger == "ledger.eu-1"


def test_an_asker_who_has_more_than_there_is_makes_a_fault(eu: Datacenter) -> None:
    ask(eu, question(9))
    assert "restored from a backup" in eu.counters.faults[0]


# --- from the store -------------------------------------------------------------------------


def test_the_end_of_a_list_from_the_store_is_not_the_end_of_what_there_is(
    eu: Datacenter, monkeypatch: pytest.MonkeyPatch
) -> None:
    load = forgotten(eu, monkeypatch)
    eu.telling.loaded(load, eu.store.rows.values(), 10.0, WALL_S)
    (chunk,) = taken(eu)
    assert pages(chunk) == ["s/4", "s/5"]
    assert not chunk.whole
    assert chunk.state is not None
    assert chunk.state.position.commit == eu.partition.feed.floor == 5


def test_rows_that_are_newer_in_the_store_are_left_for_later(eu: Datacenter, monkeypatch: pytest.MonkeyPatch) -> None:
    load = forgotten(eu, monkeypatch)
    half_written = [*eu.store.rows.values(), Row("s/8", "eu", 8, 8)]
    eu.telling.loaded(load, half_written, 10.0, WALL_S)
    (chunk,) = taken(eu)
    assert "s/8" not in pages(chunk)


def test_a_list_that_takes_longer_than_the_asker_waits_answers_the_question_that_waits_now(
    eu: Datacenter, monkeypatch: pytest.MonkeyPatch
) -> None:
    load = forgotten(eu, monkeypatch)
    rows = list(eu.store.rows.values())
    assert ask(eu, question(4, number=2)) == []
    eu.telling.loaded(load, rows, 10.0, WALL_S)
    (chunk,) = taken(eu)
    assert (chunk.number, pages(chunk)) == (2, ["s/5"])


def test_a_list_for_which_nobody_waits_is_kept_for_the_next_question(
    eu: Datacenter, monkeypatch: pytest.MonkeyPatch
) -> None:
    load = forgotten(eu, monkeypatch)
    rows = list(eu.store.rows.values())
    eu.partition.feed.held.clear()
    eu.telling.loaded(load, rows, 10.0, WALL_S)
    assert taken(eu) == []
    (chunk,) = ask(eu, question(3, number=2))
    assert (chunk.number, pages(chunk)) == (2, ["s/4", "s/5"])


@pytest.mark.parametrize("is_read", [True, False])
def test_a_list_is_no_answer_to_a_question_for_earlier_rows_than_it_has(
    eu: Datacenter, monkeypatch: pytest.MonkeyPatch, is_read: bool
) -> None:
    load = forgotten(eu, monkeypatch)
    rows = list(eu.store.rows.values())
    if is_read:
        eu.telling.loaded(load, rows, 10.0, WALL_S)
        assert len(taken(eu)) == 1
    eu.telling.asked(eu.partition, question(None, number=2), "p2", WALL_S)  # the asker's store was wiped meanwhile
    if not is_read:
        eu.telling.loaded(load, rows, 10.0, WALL_S)
        eu.telling.look(eu.partition, 10.1, WALL_S)
    chunks, (load,) = eu.telling.take()
    assert (chunks, load.after) == ({}, 0)
    eu.telling.loaded(load, rows, 10.2, WALL_S)
    (chunk,) = taken(eu)
    assert pages(chunk) == ["s/1", "s/2", "s/3", "s/4", "s/5"]


@pytest.mark.parametrize("is_read", [True, False])
@pytest.mark.parametrize("position", [Position("ledger.us-1", ERA, 1), Position("another", 1, 1)])
def test_a_list_of_an_era_or_a_history_before_is_not_told(position: Position, is_read: bool) -> None:
    world = World("eu", "us")
    world.run(3)
    for number in range(3):
        world["us"].hit(f"s/{number}")
        world.run(2)
    eu, rows = world["eu"], list(world["eu"].store.rows.values())
    eu.telling.asked(eu.partition, question(None, origin="us"), "p1", WALL_S)
    _, (load,) = eu.telling.take()
    if is_read:
        eu.telling.loaded(load, rows, 10.0, WALL_S)
        assert len(taken(eu)) == 1
    eu.partition._head = replace(eu.head, origins={"us": Origin(position, 1, {}, WALL_S)})  # us was wiped meanwhile
    eu.telling.asked(eu.partition, question(None, origin="us", number=2), "p1", WALL_S)
    if not is_read:
        eu.telling.loaded(load, rows, 10.0, WALL_S)
        eu.telling.look(eu.partition, 10.1, WALL_S)
    chunks, (load,) = eu.telling.take()
    assert (chunks, load.upto) == ({}, position)


@pytest.mark.parametrize("what", ["another epoch", "no answer"])
def test_a_list_that_comes_too_late_is_not_told(eu: Datacenter, monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    load = forgotten(eu, monkeypatch)
    rows = list(eu.store.rows.values())
    if what == "another epoch":
        eu.partition.take()
        eu.partition._head = None  # it was lost meanwhile
    eu.telling.loaded(load, None if what == "no answer" else rows, 10.0, WALL_S)
    assert taken(eu) == []


def test_rows_of_a_redo_are_told_of_a_third_datacenter_too() -> None:
    world = World("eu", "us")
    world.run(3)
    for number in range(3):  # more than one write of the store takes
        world["us"].hit(f"s/{number}")
    world["us"].steps()
    eu = world["eu"]
    world.run(2)
    head = eu.head
    assert head.redo, "the rows were few enough for one write"
    eu.store.rows = {key: row for key, row in eu.store.rows.items() if row.dc != "us"}  # not written yet
    eu.telling.asked(eu.partition, Held("ap", "there", Wanted(0, "us", 1, None), 10.0), "p1", WALL_S)
    _, (load,) = eu.telling.take()
    eu.telling.loaded(load, eu.store.rows.values(), 10.0, WALL_S)
    (chunk,) = taken(eu)
    assert sorted(pages(chunk)) == ["s/0", "s/1", "s/2"]
    assert chunk.whole


def test_a_new_owner_tells_the_rows_of_a_redo_that_it_has_not_written_yet(eu: Datacenter) -> None:
    for number in range(3):  # more than one write of the store takes
        eu.hit(f"s/redo{number}")
    step = eu.partition.step(WALL_S)
    assert isinstance(step, Write)
    eu.store.write(step)  # the head with the redo; its owner dies before the rows
    eu.start()
    (chunk,) = ask(eu, question(6))
    assert sorted(pages(chunk)) == ["s/redo0", "s/redo1", "s/redo2"]
    assert chunk.state is not None
    assert chunk.state.position.commit == 7
    assert eu.partition.feed.floor == 6

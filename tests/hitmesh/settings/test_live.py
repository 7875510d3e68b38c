"""What a role holds of the live settings while they change, are wrong, or can't be read."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from unittest import mock

import gevent
import pytest

from hitmesh import __version__
from hitmesh.mesh import duty
from hitmesh.settings import Edition, SettingsStore
from hitmesh.settings.live import Live
from hitmesh.settings.sqlite import SqliteSettings
from tests.hitmesh.dev_config import configured
from tests.services import PATIENCE_S

CONFIG = configured(lambda data: data["timing"].update(commit_s=0.5))
Followed = Callable[..., Live]


def edition(key: str, value: str | None, version: int = 1) -> Edition:
    return Edition(key, None if value is None else value.encode(), version, "anna", 1.0)


def editions(*given: Edition) -> dict[str, Edition]:
    return {each.key: each for each in given}


@pytest.fixture
def live() -> Live:
    """One that is told by hand."""
    return Live(CONFIG, mock.Mock(spec=SettingsStore))


def until(condition: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, f"waited for {what}"
        gevent.sleep(0.005)


def test_before_the_store_has_answered_the_file_is_in_force(live: Live) -> None:
    assert live.config == CONFIG
    assert (live.version, live.retired, live.known) == (0, frozenset(), False)


def test_what_is_live_lies_over_the_file(live: Live) -> None:
    live.take(editions(edition("timing.commit_s", "0.1", 3), edition("datacenters/us-west", "retired", 7)))
    assert (live.config.timing.commit_s, live.retired, live.version) == (0.1, frozenset({"us-west"}), 7)
    assert live.known


def test_what_operators_say_of_an_instance_is_known_and_its_weight_told(live: Live) -> None:
    name = live.config.name
    live.take(editions(edition(f"drained/{name}/collector-1", "drained"), edition(f"weights/{name}/collector-2", "25")))
    assert (live.is_drained("collector-1"), live.is_drained("collector-2")) == (True, False)
    assert "weight" not in live.load("collector-1")
    assert live.load("collector-2")["weight"] == 25.0


def test_what_is_unset_is_as_in_the_file_and_its_version_is_told(live: Live) -> None:
    live.take(editions(edition("timing.commit_s", "0.1", 3)))
    live.take(editions(edition("timing.commit_s", None, 4)))
    assert (live.config, live.version) == (CONFIG, 4)


def test_routes_are_passed_on_as_they_stand(live: Live) -> None:
    live.take(editions(edition("routes/default", '{"action":"empty"}'), edition("routes/x", None)))
    assert {key: each.value for key, each in live.settings.items()} == {"routes/default": b'{"action":"empty"}'}


def test_every_change_is_told_after_it_is_in_force(live: Live) -> None:
    told: list[tuple[float, int]] = []
    live = Live(CONFIG, mock.Mock(spec=SettingsStore), lambda: told.append((live.config.timing.commit_s, live.version)))
    live.take(editions(edition("timing.commit_s", "0.1", 3)))
    live.take(editions(edition("timing.commit_s", "0.2", 4)))
    assert told == [(0.1, 3), (0.2, 4)]


def test_what_does_not_apply_is_said_once_and_stops_nothing_else(live: Live, caplog: pytest.LogCaptureFixture) -> None:
    wrong = [edition("timing.commit_s", "9"), edition("timing.of_tomorrow_s", "1"), edition("limits.batch_pages", "?")]
    live.take(editions(*wrong))
    assert live.config == CONFIG
    assert live.load() == {"settings": 1, "settings_refused": 3}
    live.take(editions(*wrong, edition("timing.fresh_s", "2.0", 2)))
    assert (live.config.timing.commit_s, live.config.timing.fresh_s) == (0.5, 2.0)
    said = [each.getMessage() for each in caplog.records if each.levelname == "ERROR"]
    assert sorted(each.split()[3] for each in said) == ["limits.batch_pages", "timing.commit_s", "timing.of_tomorrow_s"]
    live.take(editions(edition("timing.commit_s", "8", 3)))
    assert "8.0" in caplog.records[-1].getMessage()


def test_a_value_that_somebody_put_there_by_hand_stops_nothing(live: Live) -> None:
    live.take({"timing.commit_s": Edition("timing.commit_s", b"\xff", 1, "anna", 1.0), "x y": edition("x y", "1", 2)})
    assert (live.config, live.version) == (CONFIG, 2)


def test_a_finalised_format_is_written(live: Live) -> None:
    assert live.written.wire == 1
    live.take(editions(edition("formats/wire", "2")))
    assert (live.written.wire, live.written.unreadable, live.load()["settings_refused"]) == (2, "", 0)


def test_who_learns_late_that_it_cannot_read_the_others_says_so_and_goes_on_as_before(live: Live) -> None:
    live.take(editions(edition("formats/wire", "2")))
    live.take(editions(edition("formats/wire", "3", 2)))
    assert live.written.wire == 2
    assert live.written.unreadable == f"the mesh writes wire format 3, and hitmesh {__version__} reads 1 to 2"


def test_who_cannot_read_the_others_does_not_begin(live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    exits = mock.Mock(side_effect=SystemExit)
    monkeypatch.setattr(os, "_exit", exits)
    with pytest.raises(SystemExit):
        live.take(editions(edition("formats/head", "2")))
    exits.assert_called_once_with(duty.EXIT_UNFIT)


# --- following a store ------------------------------------------------------------------------


@pytest.fixture
def followed() -> Iterator[Followed]:
    """Follows a store, as a role does."""
    started: list[Live] = []

    def start(store: SettingsStore, on_change: Callable[[], None] = lambda: None) -> Live:
        started.append(Live(CONFIG, store, on_change))
        started[-1].start()
        return started[-1]

    yield start
    for each in started:
        each.stop()
    gevent.sleep(0.3)


def test_a_change_in_the_store_is_in_force_soon_and_so_is_its_end(store: SettingsStore, followed: Followed) -> None:
    live = followed(store)
    store.set("timing.commit_s", b"0.1", author="anna")
    until(lambda: live.config.timing.commit_s == 0.1, "the value")
    store.merge([edition("timing.commit_s", "0.2", 40), edition("limits.batch_pages", None, 41)])
    until(lambda: live.config.timing.commit_s == 0.2 and live.version == 41, "another datacenter's value")
    store.delete("timing.commit_s", author="anna")
    until(lambda: live.config == CONFIG and live.version == 42, "the file's value")


def test_a_store_that_is_gone_changes_nothing_that_is_in_force(tmp_path: Path, followed: Followed) -> None:
    store = SqliteSettings(tmp_path / "settings.db", poll_s=0.01)
    store.set("timing.commit_s", b"0.1", author="anna")
    live = followed(store)
    until(lambda: live.config.timing.commit_s == 0.1, "the value")
    away = tmp_path / "away.db"
    (tmp_path / "settings.db").rename(away)
    watch = live._watch
    assert watch is not None
    until(lambda: watch.trouble, "the trouble")
    assert (live.config.timing.commit_s, live.version) == (0.1, 1)
    away.rename(tmp_path / "settings.db")
    store.set("timing.commit_s", b"0.3", author="anna")
    until(lambda: live.config.timing.commit_s == 0.3, "the value after it")


def test_one_that_is_stopped_follows_no_more(tmp_path: Path, followed: Followed) -> None:
    store = SqliteSettings(tmp_path / "settings.db", poll_s=0.01)
    other = followed(store)
    live = followed(store)
    until(lambda: live.known, "the first answer")
    live.stop()
    store.set("timing.commit_s", b"0.1", author="anna")
    until(lambda: other.config.timing.commit_s == 0.1, "the other one")
    gevent.sleep(0.05)
    assert live.config == CONFIG

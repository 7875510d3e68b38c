"""`hitmesh pause` and `resume`: what they refuse, and what they leave in the settings store."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path

import msgspec
import pytest

from hitmesh.cli import in_force
from hitmesh.cli.main import run
from hitmesh.config.pauses import TEXT, parse_pause
from hitmesh.settings.sqlite import SqliteSettings
from tests.hitmesh.dev_config import DEV


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A state folder of one datacenter in which nothing runs."""
    (tmp_path / "dev").mkdir()
    (tmp_path / "dev" / "hitmesh.toml").write_text(DEV.read_text())
    monkeypatch.setattr(in_force.Wait, "run", lambda self, within_s: None)
    return tmp_path


def stored(state: Path) -> dict[str, bytes]:
    with contextlib.closing(SqliteSettings(state / "dev" / "settings.db")) as store:
        return {key: each.value for key, each in store.list("pauses/").items()}


def command(state: Path, *words: str) -> int:
    return run([*words, "--state-dir", str(state)])


@pytest.mark.parametrize(
    ("words", "text", "hold_s", "for_s"),
    [
        ((), TEXT, 0.0, 600),
        (("--text", "back at ten", "--for", "2h"), "back at ten", 0.0, 7200),
        (("--hold", "20", "--for", "90"), "", 20.0, 90),
    ],
)
def test_a_route_is_paused_and_resumed(
    state: Path, words: tuple[str, ...], text: str, hold_s: float, for_s: float
) -> None:
    before = time.time()
    assert command(state, "pause", "Default", *words) == 0
    [(key, value)] = stored(state).items()
    pause = parse_pause(key, value)
    assert (key, pause.text, pause.hold_s) == ("pauses/default", text, hold_s)
    assert before + for_s - 0.01 <= pause.until <= time.time() + for_s
    assert command(state, "resume", "default") == 0
    assert stored(state) == {}


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        ("pause defalt", 1, "there is no route defalt (did you mean default?)"),
        ("pause a/b", 1, "'a/b' must be a name"),
        ("resume default", 1, "the route default isn't paused"),
        ("pause default --text x --hold 1", 2, "--text or --hold, not both"),
        ("pause default --text \udcff", 2, "--text isn't UTF-8"),
        ("pause default --hold nan", 2, "is no number of seconds"),
        ("pause default --hold 0", 2, "0.0 is not in the range"),
        ("pause default --hold 601", 2, "is not in the range"),
        ("pause default --for 8d", 2, "'8d' is not a time from 1s to 7d"),
        ("pause default --for soon", 2, "'soon' is not a time"),
        ("pause default --for 0", 2, "'0' is not a time"),
    ],
)
def test_what_is_wrong_is_told_in_a_line_and_changes_nothing(
    state: Path, capsys: pytest.CaptureFixture[str], words: str, status: int, said: str
) -> None:
    assert command(state, *words.split()) == status
    told = capsys.readouterr().err
    assert told.count("\n") == 1
    assert said in told
    assert stored(state) == {}


def test_a_page_is_a_text_too(state: Path) -> None:
    assert command(state, "pause", "default", "--text", "<h1>\u00dc</h1>") == 0
    assert msgspec.json.decode(stored(state)["pauses/default"])["text"] == "<h1>\u00dc</h1>"

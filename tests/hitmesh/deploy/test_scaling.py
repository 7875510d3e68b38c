from __future__ import annotations

from pathlib import Path

import pytest

from hitmesh import config as settings
from hitmesh.deploy.fleet import Fleet
from hitmesh.deploy.scaling import scaled
from hitmesh.errors import CommandError

FILE = Path(__file__).parents[3] / "config" / "us-west.toml"
TEXT = FILE.read_text()
FLEET = Fleet.of(settings.load(FILE))


def test_more_of_a_role_are_spread_over_the_hosts_that_have_some_and_comments_stay() -> None:
    text, changed = scaled(TEXT, FLEET, "collector", 8)
    assert changed == ["app-1: collector 2 -> 3", "app-2: collector 2 -> 3"]
    differing = [(a, b) for a, b in zip(TEXT.splitlines(), text.splitlines(), strict=True) if a != b]
    assert len(differing) == 2
    assert differing[0][1] == differing[0][0].replace("= 2", "= 3")
    assert "as many as there are cores" in differing[0][1]


def test_the_same_number_changes_nothing() -> None:
    assert scaled(TEXT, FLEET, "collector", 6) == (TEXT, [])


def test_none_of_a_role_is_refused() -> None:
    with pytest.raises(CommandError, match="at least one must stay"):
        scaled(TEXT, FLEET, "collector", 0)


@pytest.mark.parametrize("plain", ["collector = 2 ", "[nodes.app-1]"])
def test_numbers_that_are_not_written_plainly_are_left_alone(plain: str) -> None:
    odd = {"collector = 2 ": "collector = 0x2 ", "[nodes.app-1]": '[nodes."app\\u002d1"]'}[plain]
    assert plain in TEXT
    with pytest.raises(CommandError, match=r"aren't written plainly|has no line \[nodes\.app-1\]"):
        scaled(TEXT.replace(plain, odd), FLEET, "collector", 8)

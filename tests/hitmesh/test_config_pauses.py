"""Pauses of routes, as live settings."""

from __future__ import annotations

import pytest

from hitmesh.config import Config, Hold, Static
from hitmesh.config.live import apply, check, check_without
from hitmesh.config.pauses import MAX_TEXT_CHARS, parse_pause
from hitmesh.errors import ConfigError

CONFIG = Config(name="eu-west", nodes={})
KEY = "pauses/www.example.com"


def test_a_pause_stands_in_for_a_route_with_a_text_a_page_or_a_wait() -> None:
    text = parse_pause(KEY, '{"until": 5, "text": "back at ten"}').stand_in()
    assert isinstance(text, Static)
    assert (text.status, text.body, text.content_type) == (503, "back at ten", "text/plain; charset=utf-8")
    page = parse_pause(KEY, '{"until": 5, "text": " <h1>Back</h1>"}').stand_in()
    assert isinstance(page, Static)
    assert page.content_type == "text/html; charset=utf-8"
    assert parse_pause(KEY, '{"until": 5, "hold_s": 20}').stand_in() == Hold(hold_s=20.0)


@pytest.mark.parametrize(
    ("key", "value", "problem"),
    [
        (KEY, "soon", "not JSON"),
        (KEY, "[]", "a pause is a JSON object"),
        (KEY, '{"text": "x"}', "until is missing"),
        (KEY, '{"until": 5}', "exactly one of them must be given"),
        (KEY, '{"until": 5, "text": "x", "hold_s": 1}', "exactly one of them must be given"),
        (KEY, '{"until": 5, "hold_s": 601}', "hold_s must be a number <= 600"),
        (KEY, '{"until": -1, "text": "x"}', "until must be a number >= 0"),
        (KEY, '{"until": 1e300, "text": "x"}', "until must be a number <= "),
        (KEY, '{"until": 5, "txt": "x"}', "txt is not a setting; did you mean text?"),
        (KEY, f'{{"until": 5, "text": "{"x" * (MAX_TEXT_CHARS + 1)}"}}', "text must be"),
        ("pauses/WWW.example.com", '{"until": 5, "text": "x"}', "did you mean pauses/www.example.com?"),
        ("pauses/a b", '{"until": 5, "text": "x"}', "must be a name"),
    ],
)
def test_a_wrong_pause_is_refused(key: str, value: str, problem: str) -> None:
    with pytest.raises(ConfigError) as refused:
        check(key, value, CONFIG)
    assert problem in refused.value.message


def test_a_right_one_is_written_in_its_one_way_and_can_be_taken_back() -> None:
    value = check(KEY, '{ "hold_s": 20, "until": 5 }', CONFIG)
    assert value == '{"until":5.0,"text":"","hold_s":20.0}'
    assert apply(CONFIG, {KEY: value}).refused == {}
    check_without(KEY, CONFIG, {KEY: value})

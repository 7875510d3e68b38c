"""Text from outside, made harmless for a terminal and a log."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hitmesh.visible import visible


@pytest.mark.parametrize(
    "text", ["example.com/front", "münchen.example/straße 7", "例え.example/ページ", "[red]x[/red] \\n"]
)
def test_what_is_printable_stays(text: str) -> None:
    assert visible(text) == text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\x1b[2Jb", "a\\x1b[2Jb"),
        ("a\nhitmesh: all is well", "a\\nhitmesh: all is well"),
        ("a\x9bm", "a\\x9bm"),
        ("gpj\u202e.exe", "gpj\\u202e.exe"),
        ("\u2066x\u2069", "\\u2066x\\u2069"),
        ("a\u200bb\u00adc", "a\\u200bb\\xadc"),
        ("a\u2028b\u2029c", "a\\u2028b\\u2029c"),
        ("a\udc80b", "a\\udc80b"),
        ("\U000e0041", "\\U000e0041"),
    ],
)
def test_what_a_terminal_would_obey_or_hide_is_escaped(text: str, shown: str) -> None:
    assert visible(text) == shown


@given(st.text(st.characters(codec=None)))
def test_nothing_else_comes_out(text: str) -> None:
    assert not {unicodedata.category(each) for each in visible(text)} & {"Cc", "Cf", "Cs", "Zl", "Zp"}

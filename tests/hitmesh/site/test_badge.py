"""Badges: valid SVG, text that fits, whatever anybody asks for."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hitmesh.site.badge import COLORS, MAX_LABEL_CHARS, STYLES, Badge, BadgeError, width_of

SVG = "{http://www.w3.org/2000/svg}"
LARGEST = 2**53


def drawn(badge: Badge, total: int | None = 1234) -> ElementTree.Element:
    return ElementTree.fromstring(badge.svg(total))


def texts(image: ElementTree.Element) -> list[str]:
    return [each.text or "" for each in image.iter(f"{SVG}text")]


def test_a_badge_has_its_label_and_total() -> None:
    image = drawn(Badge(label="visits", color="c62828"))
    assert texts(image) == ["visits", "1,234"]
    assert (image.get("role"), image.get("aria-label")) == ("img", "visits: 1,234")
    assert [each.text for each in image.iter(f"{SVG}title")] == ["visits: 1,234"]


@pytest.mark.parametrize(
    ("total", "shown"), [(0, "0"), (999, "999"), (1000, "1,000"), (LARGEST, f"{LARGEST:,}"), (None, "?")]
)
def test_a_total_is_shown_in_full(total: int | None, shown: str) -> None:
    assert texts(drawn(Badge(), total))[-1] == shown


@pytest.mark.parametrize("style", STYLES)
@given(label=st.text(max_size=MAX_LABEL_CHARS), total=st.none() | st.integers(0, LARGEST))
def test_any_label_is_text_within_the_image_and_less_than_a_kibibyte_of_usual_ones(
    style: str, label: str, total: int | None
) -> None:
    said = Badge(label=label, style=style).svg(total)
    image = ElementTree.fromstring(said)
    width = int(str(image.get("width")))
    ends = [int(each.get("x", "0")) + int(str(each.get("textLength"))) for each in image.iter(f"{SVG}text")]
    assert max(ends) <= width
    assert "".join(image.itertext()).isprintable() or style == "plain"
    if label.isascii() and label.isalnum() and len(label) <= 20:
        assert len(said.encode()) < 1024


@pytest.mark.parametrize(
    "label", ['<script>alert("x")</script>', "a&b", "'\"", "]]>", "a\x00\x1b[31m", "\u202egnp", "\ud800"]
)
def test_hostile_labels_stay_text(label: str) -> None:
    image = drawn(Badge(label=label))
    assert {each.tag for each in image.iter()} == {
        SVG + name for name in ("svg", "title", "clipPath", "rect", "g", "path", "text")
    }
    assert texts(image)[0].isprintable()


def test_a_wider_text_has_a_wider_box() -> None:
    assert width_of("iiii") < width_of("hits") < width_of("MMMM") < width_of("日日日日日")
    assert width_of("e\u0301") == width_of("e")
    assert width_of("hits") == 21  # of DejaVu Sans at 11 px: 6.97 + 3.06 + 4.31 + 5.73


@given(
    st.sampled_from((*COLORS, "4c1", "4C1", "#0a66b7", "FFFFFF")) | st.text("0123456789abcdef", min_size=6, max_size=6)
)
def test_the_total_can_be_read_on_any_color(color: str) -> None:
    image = drawn(Badge(color=color))
    ground = [each.get("fill", "") for each in image.iter(f"{SVG}path")][-1]
    text = [each.get("fill", "") for each in image.iter(f"{SVG}text")][-1]
    assert contrast(ground, text) >= 4.4  # 4.5 is what WCAG wants; the power of 2.2 is nearly its curve


def contrast(one: str, other: str) -> float:
    """Of two colours, as WCAG 2.2 has it."""
    lighter, darker = sorted((luminance(one), luminance(other)), reverse=True)
    return (lighter + 0.05) / (darker + 0.05)


def luminance(color: str) -> float:
    digits = color.removeprefix("#")
    digits = digits if len(digits) == 6 else "".join(each * 2 for each in digits)
    parts = [int(digits[at : at + 2], 16) / 255 for at in (0, 2, 4)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize(
    ("look", "word"),
    [
        ({"label": "x" * (MAX_LABEL_CHARS + 1)}, "64 characters"),
        ({"style": "round"}, "flat, flat-square, plain"),
        ({"color": "nocolor"}, "brightgreen"),
        ({"color": "12345"}, "brightgreen"),
        ({"color": 'red"/>'}, "brightgreen"),
    ],
)
def test_a_look_that_no_badge_has_is_refused_in_words(look: dict[str, str], word: str) -> None:
    with pytest.raises(BadgeError, match=word):
        Badge(**look)

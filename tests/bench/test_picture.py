"""The picture of the figures: bars that begin where both are equal."""

from __future__ import annotations

from xml.etree import ElementTree

from bench.picture import drawn

RECT = "{http://www.w3.org/2000/svg}rect"


def test_a_bar_begins_at_equality_and_says_when_it_is_short() -> None:
    image = ElementTree.fromstring(
        drawn([["2.0", "1", "better <than>"], ["0.5", "1", "worse"], ["0.5", "-", "as it is"]])
    )
    more, less, told = image.iter(RECT)
    assert float(str(more.get("x"))) == float(str(less.get("x"))) + float(str(less.get("width")))
    assert [each.get("class") for each in (more, less, told)] == ["bar", "short", "bar"]
    assert "better <than>" in "".join(image.itertext())

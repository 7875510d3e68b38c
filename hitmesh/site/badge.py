"""A page's total as a small SVG image, as READMEs show them. Pure.

The widths are DejaVu Sans's, and `textLength` makes any other font fill them: so text fits its box wherever it is drawn.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from html import escape
from typing import Final

from hitmesh.errors import HitmeshError
from hitmesh.visible import visible

STYLES: Final = ("flat", "flat-square", "plain")
COLORS: Final[Mapping[str, str]] = {
    "brightgreen": "4c1",
    "green": "2a7d1f",
    "yellow": "dfb317",
    "orange": "fe7d37",
    "red": "c62828",
    "blue": "0a66b7",
    "purple": "7a3db8",
    "grey": "555",
    "lightgrey": "9f9f9f",
}
MAX_LABEL_CHARS: Final = 64
UNKNOWN: Final = "?"

_LABEL_COLOR: Final = "444"
_HEX: Final = re.compile(r"([0-9a-f]{3}|[0-9a-f]{6})")
_FONT: Final = 'font-family="Verdana,\'DejaVu Sans\',Geneva,sans-serif" font-size="11"'
_LUMINANCE: Final = 0.179  # of the ground from which on dark letters stand out more (WCAG 2.2)
_EM: Final = 2048
_SIZE: Final = 11
_PADDING: Final = 6  # on each side of a text
# Of the characters from U+0020 to U+007E, in units of which an em has 2,048.
_WIDTHS: Final = (
    651, 821, 942, 1716, 1303, 1946, 1597, 563, 799, 799, 1024, 1716, 651, 739, 651, 690, 1303, 1303, 1303, 1303, 1303,
    1303, 1303, 1303, 1303, 1303, 690, 690, 1716, 1716, 1716, 1087, 2048, 1401, 1405, 1430, 1577, 1294, 1178, 1587,
    1540, 604, 604, 1343, 1141, 1767, 1532, 1612, 1235, 1612, 1423, 1300, 1251, 1499, 1401, 2025, 1403, 1251, 1403, 799,
    690, 799, 1716, 1024, 1024, 1255, 1300, 1126, 1300, 1260, 721, 1300, 1298, 569, 569, 1186, 569, 1995, 1298, 1253,
    1300, 1300, 842, 1067, 803, 1298, 1212, 1675, 1212, 1212, 1075, 1303, 690, 1303, 1716,
)  # fmt: skip
_OTHER_WIDTH: Final = 1300


class BadgeError(HitmeshError):
    """A look that no badge has; the message says which ones there are."""


class Badge:
    """A look. Raises BadgeError for one that can't be."""

    def __init__(self, *, label: str = "hits", color: str = "blue", style: str = "flat") -> None:
        if len(label) > MAX_LABEL_CHARS:
            raise BadgeError(f"label has at most {MAX_LABEL_CHARS} characters")
        if style not in STYLES:
            raise BadgeError(f"style is one of {', '.join(STYLES)}")
        found = COLORS.get(color, color.removeprefix("#").lower())
        if not _HEX.fullmatch(found):
            raise BadgeError(f"color is one of {', '.join(COLORS)}, or of the form 0a66b7 or 4c1")
        self._label = visible(label)
        self._color = found
        self._style = style

    def svg(self, total: int | None) -> str:
        """The image of a total; of one that isn't known, None."""
        label, value = self._label, UNKNOWN if total is None else f"{total:,}"
        said = escape(f"{label}: {value}" if label else value)
        if self._style == "plain":
            return _plain(said, f"{label} {value}" if label else value)
        left = width_of(label) + 2 * _PADDING if label else 0
        right = width_of(value) + 2 * _PADDING
        all_of_it = left + right
        radius = 3 if self._style == "flat" else 0
        return (
            f"{_head(all_of_it, said)}"
            f'<clipPath id="a"><rect width="{all_of_it}" height="20" rx="{radius}"/></clipPath><g clip-path="url(#a)">'
            f'<path fill="#{_LABEL_COLOR}" d="M0 0h{left}v20H0z"/>'
            f'<path fill="#{self._color}" d="M{left} 0h{right}v20H{left}z"/></g><g {_FONT}>'
            f"{_text(label, _PADDING, 'fff') if label else ''}"
            f"{_text(value, left + _PADDING, _text_color(self._color))}</g></svg>"
        )


def width_of(text: str) -> int:
    """How wide a text is in a badge, in pixels, rounded up."""
    units = sum(map(_units, text))
    return -(-units * _SIZE // _EM)


def _units(char: str) -> int:
    point = ord(char)
    if 0x20 <= point <= 0x7E:
        return _WIDTHS[point - 0x20]
    if unicodedata.combining(char):
        return 0
    return _EM if unicodedata.east_asian_width(char) in "WF" else _OTHER_WIDTH


def _head(width: int, said: str) -> str:
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="20" role="img" aria-label="{said}">'
        f"<title>{said}</title>"
    )


def _text(text: str, x: int, color: str) -> str:
    return f'<text fill="#{color}" x="{x}" y="14" textLength="{width_of(text)}">{escape(text)}</text>'


def _plain(said: str, text: str) -> str:
    """Text alone, which is dark on a light page and light on a dark one."""
    width = width_of(text)
    return (
        f"{_head(width, said)}<style>text{{fill:#24292f}}@media(prefers-color-scheme:dark){{text{{fill:#e6edf3}}}}</style>"
        f'<text {_FONT} y="14" textLength="{width}">{escape(text)}</text></svg>'
    )


def _text_color(background: str) -> str:
    """What can be read best on it: white or black."""
    digits = background if len(background) == 6 else "".join(each * 2 for each in background)
    red, green, blue = ((int(digits[at : at + 2], 16) / 255) ** 2.2 for at in (0, 2, 4))
    return "fff" if 0.2126 * red + 0.7152 * green + 0.0722 * blue < _LUMINANCE else "000"

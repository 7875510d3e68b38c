"""The picture of docs/performance.md: a bar for each ratio, and a line at 1, where both are equal.

    python -m bench.picture < ratios > docs/performance.svg

A line of its input is a ratio, what is wanted of it (or -), and what it is of: `1.03 1.00 balancer to HAProxy, bare`.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable
from html import escape

WIDTH, LABEL, ROW, BAR = 760, 400, 26, 16
LARGEST = 16.0  # where the scale ends; it is logarithmic, so that 0.5 and 2 are as far from 1
SMALLEST = 0.5

STYLE = (
    "text{font:13px system-ui,sans-serif;fill:#24292f}.bar{fill:#0a66b7}.short{fill:#c2571a}.line{stroke:#888}"
    "@media(prefers-color-scheme:dark){text{fill:#e6edf3}.bar{fill:#6cb6ff}.short{fill:#ff9c5c}}"
)


def main() -> None:
    """From standard input to standard output."""
    sys.stdout.write(drawn(line.split(maxsplit=2) for line in sys.stdin if line.strip()))


def drawn(rows: Iterable[list[str]]) -> str:
    """The SVG."""
    bars = []
    for number, (ratio, wanted, label) in enumerate(rows):
        y = number * ROW
        start, end = sorted((_x(1.0), _x(float(ratio))))
        is_short = wanted != "-" and float(ratio) < float(wanted)
        target = "" if wanted == "-" else f", wanted {wanted}"
        bars.append(
            f'<text x="{LABEL - 8}" y="{y + 14}" text-anchor="end">{escape(label.strip())}</text>'
            f'<rect class="{"short" if is_short else "bar"}" x="{start:.0f}" y="{y + 1}" width="{end - start:.0f}" height="{BAR}"/>'
            f'<text x="{max(end, _x(1.0)) + 6:.0f}" y="{y + 14}">{float(ratio):g}{target}</text>'
        )
    height = len(bars) * ROW
    line = f'<path class="line" d="M{_x(1.0):.0f} 0V{height}"/>'
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img" '
        f'aria-label="ratios of hitmesh to other systems"><style>{STYLE}</style>{"".join(bars)}{line}</svg>\n'
    )


def _x(ratio: float) -> float:
    share = math.log(max(ratio, SMALLEST) / SMALLEST) / math.log(LARGEST / SMALLEST)
    return LABEL + share * (WIDTH - LABEL - 140)


if __name__ == "__main__":
    main()

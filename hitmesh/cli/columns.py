"""Rows of a table for people. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from hitmesh.visible import visible


def columns(rows: Sequence[Sequence[str]]) -> str:
    """The rows as lines, each column as wide as its longest cell; whatever is in a cell is shown as text."""
    shown = [[visible(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*shown, strict=True)]
    return "\n".join("  ".join(map(str.ljust, row, widths)).rstrip() for row in shown)

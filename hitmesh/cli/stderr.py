"""What a command says besides its result: lines on stderr, which nobody from outside can forge."""

from __future__ import annotations

import sys

from hitmesh.visible import visible


def warn(text: str) -> None:
    """What went wrong, or needs to be known, as one line."""
    show(f"hitmesh: {text}")


def show(text: str) -> None:
    """One line as it is, for what is under way."""
    print(visible(text), file=sys.stderr, flush=True)

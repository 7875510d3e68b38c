"""Text from outside, as people may be shown it. Pure; knows nothing of where it comes from.

What a page, an instance or another datacenter is called was written by somebody else. A control character
of it moves the cursor, a line separator forges a line of a log, and a format character turns the order of
all that follows.
"""

from __future__ import annotations


def visible(text: str) -> str:
    r"""`text` with each character that isn't printable as a Python string has it, such as \x1b or \u202e.

    Printable is what Unicode says is a letter, mark, number, punctuation or symbol, and the space: so no
    control, format, bidirectional or surrogate character, and no separator of lines.
    """
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)

"""Where heads and rows are in Consul's key space, and back. Pure.

Under the prefix, readable with `consul kv get`:

    heads/0007                                the head of partition 7
    rows/0007/<percent-encoded page>/<dc>     its count as text, the commit number in Flags

Partitions have four digits, so that no key is the beginning of another partition's. A page is
percent-encoded whole, slashes too: as it stands, a page with `//` would have a URL that Consul
redirects to another key, and the end of the page couldn't be told from the datacenter.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from string import digits
from urllib.parse import quote, unquote

from hitmesh.protocol.messages import MAX_PARTITIONS, MAX_TOTAL
from hitmesh.store import Row

DIGITS = 4
assert MAX_PARTITIONS <= 10**DIGITS

MAX_PREFIX_BYTES = 64  # it is repeated in every key of a transaction, whose size is limited
_PLAIN = re.compile(r"[A-Za-z0-9._~/-]*")  # of which percent-encoding changes the slashes alone
_MAX_COUNT_DIGITS = len(str(MAX_TOTAL))


class Keys:
    """The keys of one mesh, whose `prefix` is a path without slashes at its ends."""

    def __init__(self, prefix: str) -> None:
        self.heads = f"{prefix}/heads/"
        self.rows = f"{prefix}/rows/"
        self.nothing = f"{prefix}/nothing"  # never written

    def kind(self, key: str) -> str:
        """What the keys of all heads begin with, or those of all rows, as it is one or the other; else `key`."""
        return next((start for start in (self.heads, self.rows) if key.startswith(start)), key)

    def head(self, partition: int) -> str:
        """The key of a partition's head; no other key begins like it."""
        return f"{self.heads}{partition:0{DIGITS}}"

    def rows_of(self, partition: int) -> str:
        """What the keys of a partition's rows begin with, and no others."""
        return f"{self.rows}{partition:0{DIGITS}}/"

    def rows_of_all_but(self, partitions: Collection[int]) -> list[str]:
        """What the keys of all other partitions' rows begin with, and none of these: as few as there can be."""
        excepted = {f"{partition:0{DIGITS}}" for partition in partitions}
        inner = {each[:length] for each in excepted for length in range(1, DIGITS)}

        def below(start: str) -> Iterator[str]:
            for digit in digits:
                if start + digit in inner:
                    yield from below(start + digit)
                elif start + digit not in excepted:
                    yield self.rows + start + digit

        return list(below(""))

    def page(self, partition: int, page: str) -> str:
        """What the keys of a page's rows begin with, and no others."""
        return f"{self.rows_of(partition)}{_quoted(page)}/"

    def row(self, partition: int, page: str, dc: str) -> str:
        """The key of one row."""
        return f"{self.page(partition, page)}{_quoted(dc)}"

    def partition_of_head(self, key: str) -> int:
        """The partition whose head has this key. Raises ValueError for a key that isn't one of a head."""
        return _partition(key.removeprefix(self.heads))

    def parse_row(self, key: str, value: bytes, flags: int) -> tuple[int, Row]:
        """The partition and the row in an entry. Raises ValueError for one that isn't a row."""
        partition, page, dc = key.removeprefix(self.rows).split("/")
        # int() alone would also take spaces, signs and underscores: a count is digits or it is a mistake.
        if not value.isdigit() or len(value) > _MAX_COUNT_DIGITS:
            raise ValueError("the value is not a count")
        row = Row(_unquoted(page), _unquoted(dc), int(value), flags)
        return _partition(partition), row


def _quoted(text: str) -> str:
    # Of a commit's time quote() took a half, too.
    return text.replace("/", "%2F") if _PLAIN.fullmatch(text) else quote(text, safe="")


def _unquoted(text: str) -> str:
    # Of a take-over's time unquote() took half; most pages have nothing quoted but their slashes.
    plain = text.replace("%2F", "/")
    return unquote(text, errors="strict") if "%" in plain else plain


def _partition(text: str) -> int:
    if len(text) != DIGITS or not (text.isascii() and text.isdigit()):
        raise ValueError(f"{text!r} is not a partition of {DIGITS} digits")
    return int(text)


def count_value(count: int) -> bytes:
    """A row's value."""
    return str(count).encode("ascii")

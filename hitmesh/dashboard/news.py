"""A datacenter's `Part` as its dashboard tells it to the others', and who of those that tell is believed. Pure.

Invariants:
- What comes is bounded before it is unpacked, while it is, and as what it says: nothing of it is kept otherwise.
- A part is kept only of the datacenter whose dashboard the mesh says is there.
- How old one is, is by our own clock; the senders' clocks only choose between two of the same datacenter.
"""

from __future__ import annotations

import zlib
from collections import deque
from collections.abc import Collection
from typing import Final

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from hitmesh.dashboard.status import DAYS, EVENTS, FORMAT, MINUTES, Part
from hitmesh.errors import DecodeError
from hitmesh.protocol.messages import MAX_DCS, MAX_INSTANCES, MAX_NEWS_BYTES, MAX_PARTITIONS, News, make
from hitmesh.protocol.names import is_name

MAX_PART_BYTES: Final = 16 * 1024 * 1024  # unpacked: ten thousand instances with all their bars
LEVEL: Final = 1  # zlib's: a tenth of the size in a third of the time of its usual one
FEWER: Final = 50  # events, and pages, that are told of a datacenter that is too large for all
HEARD_S: Final = 5.0  # for which one of two dashboards of a datacenter is believed without being heard again
OFFSETS: Final = 30  # news of which the fastest counts: the others were waited for somewhere
_MAX_LISTED: Final = 1000  # spools, balancers, links, problems or pages of one datacenter

_encode = msgspec.json.Encoder().encode
_decoder = msgspec.json.Decoder(Part)


def news_of(part: Part, *, dashboard: str, number: int) -> News:
    """What is told of a part; of one that is too large without what is least missed."""
    packed = zlib.compress(_encode(part), LEVEL)
    if len(packed) > MAX_NEWS_BYTES:
        packed = zlib.compress(_encode(_smaller(part)), LEVEL)
    return make(News, part.dc, dashboard, number, FORMAT, packed[:MAX_NEWS_BYTES])


def part_of(news: News, dc: str) -> Part:
    """The part that a dashboard of `dc` tells. Raises DecodeError."""
    if news.dc != dc:
        raise DecodeError(f"a dashboard of {dc} tells of {news.dc}", op="news")
    if news.format != FORMAT:
        raise DecodeError(f"format {news.format}, and this release reads {FORMAT}", op="news")
    unpacking = zlib.decompressobj()
    try:
        data = unpacking.decompress(news.packed, MAX_PART_BYTES)
    except zlib.error as error:
        raise DecodeError(str(error), op="news") from error
    if not unpacking.eof:
        raise DecodeError(f"cut off, or more than {MAX_PART_BYTES} bytes", op="news")
    try:
        part = _decoder.decode(data)
    except (ValueError, RecursionError) as error:  # msgspec's errors are ValueErrors, as is bad UTF-8
        raise DecodeError(str(error), op="news") from error
    if problem := _problem(part, dc):
        raise DecodeError(problem, op="news")
    return part


class Heard(Struct):
    """The last part of one dashboard."""

    part: Part
    number: int
    at: float  # monotonic
    offsets: deque[float]  # our clock less its `at`, of the last ones


class Board:
    """The last parts of the other datacenters, by who tells them."""

    def __init__(self) -> None:
        self._heard: dict[tuple[str, str], Heard] = {}  # by datacenter and dashboard

    def hear(self, news: News, part: Part, now: float, wall: float) -> bool:
        """Keep what a dashboard tells; False: something newer of it is there, or too many are. `now` is monotonic."""
        place = part.dc, news.dashboard
        before = self._heard.get(place)
        if before is not None and news.number <= before.number:
            return False
        mine = [(dc, each) for dc, each in self._heard if dc == part.dc]
        if before is None and len({dc for dc, _ in self._heard} | {part.dc}) > MAX_DCS:
            return False
        offsets = before.offsets if before is not None else deque(maxlen=OFFSETS)
        offsets.append(wall - part.at)
        self._heard[place] = Heard(part, news.number, now, offsets)
        for each in mine:
            if each != place and now - self._heard[each].at > HEARD_S:
                del self._heard[each]  # it has been replaced, or its twin speaks for it
        return True

    def offsets(self, now: float) -> dict[str, float]:
        """`Part.offsets`, of those that are heard."""
        return {
            dashboard: round(min(one.offsets), 3)
            for (_, dashboard), one in self._heard.items()
            if now - one.at <= HEARD_S
        }

    def parts(self, now: float, wall: float, gone: Collection[str] = ()) -> dict[str, Part]:
        """The part of each datacenter but those that are `gone`, its `at` by our clocks: `now` monotonic, `wall` not."""
        chosen: dict[str, Heard] = {}
        for (dc, _), heard in self._heard.items():
            other = chosen.get(dc)
            if dc not in gone and (other is None or _rank(heard, now) > _rank(other, now)):
                chosen[dc] = heard
        return {dc: replace(one.part, at=wall - (now - one.at)) for dc, one in chosen.items()}


def _rank(heard: Heard, now: float) -> tuple[bool, float]:
    """Of those that are heard the one that saw it last, by their clocks; of those that aren't the last one heard."""
    is_heard = now - heard.at <= HEARD_S
    return is_heard, heard.part.at if is_heard else heard.at


def _smaller(part: Part) -> Part:
    return replace(
        part,
        instances=[replace(one, hour="", days="") for one in part.instances],
        events=part.events[:FEWER],
        top=part.top[:FEWER],
        problems=part.problems[:FEWER],
        balancers=[replace(one, backends=()) for one in part.balancers],
    )


def _problem(part: Part, dc: str) -> str:
    """What can't be true of a part; empty: nothing."""
    if part.dc != dc:
        return f"a part of {part.dc!a:.140}, told of {dc}"
    for what, count, most in (
        ("instances", len(part.instances), MAX_INSTANCES),
        ("owners", len(part.store.owners), MAX_PARTITIONS),
        ("events", len(part.events), EVENTS),
        ("datacenters", len(part.heard), MAX_DCS),
        *(
            (what, len(getattr(part, what)), _MAX_LISTED)
            for what in ("offsets", "spools", "balancers", "links", "problems", "top", "alerts", "silences", "ways")
        ),
    ):
        if count > most:
            return f"{count} {what}; at most {most} are believed"
    for one in part.instances:
        if not is_name(one.name) or len(one.hour) > MINUTES or len(one.days) > DAYS:
            return f"an instance that can't be one: {one.name!a:.140}"
    return ""

"""On which host one more is started, and on which one is stopped. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from msgspec import Struct

from hitmesh.scaler.figures import Host


class Place(Struct, frozen=True, kw_only=True):
    """A node as one role sees it."""

    name: str
    least: int  # that it runs anyway, as the configuration says
    most: int  # for which it has programs
    wanted: int
    host: Host | None = None  # None: its scaler doesn't live, and nothing can be started or stopped there


def obstacle(place: Place, planned: int, *, busy: float, free_mb: int) -> str:
    """Why nothing more can be started there, besides what is `planned` already; empty when it can."""
    host = place.host
    if place.most <= place.least:
        return "has no place for more"
    if host is None:
        return "its scaler isn't heard"
    if not host.is_able:
        return "its supervisord doesn't answer, or its figures are missing"
    if place.wanted >= place.most:
        return f"has {place.wanted} of {place.most}"
    if host.busy > busy:
        return f"{host.busy:.0%} of its CPUs are in use"
    if host.free_mb - planned * free_mb < free_mb:
        return f"{host.free_mb:g} MB are free there"
    return ""


def for_one_more(places: Sequence[Place], planned: Mapping[str, int], *, busy: float, free_mb: int) -> str | None:
    """Where there is the most room, in whole CPUs; of those alike where there are the fewest, then the first.

    None: nowhere.
    """
    fit = [each for each in places if not obstacle(each, planned.get(each.name, 0), busy=busy, free_mb=free_mb)]
    if not fit:
        return None
    best = max(range(len(fit)), key=lambda at: (int(_room(fit[at], planned)), -fit[at].wanted, -at))
    return fit[best].name


def for_one_less(places: Sequence[Place]) -> str | None:
    """Where there are the most that aren't there anyway; of those alike where there is the least room, then the last.

    None: nowhere.
    """
    fit = [each for each in places if each.host is not None and each.wanted > each.least]
    if not fit:
        return None
    best = max(range(len(fit)), key=lambda at: (fit[at].wanted - fit[at].least, -int(_room(fit[at], {})), at))
    return fit[best].name


def full(places: Sequence[Place], *, busy: float, free_mb: int) -> str:
    """Why nothing can be started anywhere, node by node."""
    return "; ".join(f"{each.name} {obstacle(each, 0, busy=busy, free_mb=free_mb)}" for each in places)


def _room(place: Place, planned: Mapping[str, int]) -> float:
    return (place.host.room if place.host else 0.0) - planned.get(place.name, 0)

"""Several workers' pictures into one. Pure.

Counters, rates and what is under way are summed. A maximum is the largest that any worker saw, and
at least what is there now in all: a lower bound of the instance's own. Averages are weighed by how
many requests are in them. A status on which the workers differ says how many see it so, best first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any, Final

from balancer.measures.rates import SAMPLES
from balancer.measures.stats import TIMES, Pause, Picture, no_pause
from hitmesh.settings.live import LOAD, LOAD_REFUSED

# From best to worst: a backend that one worker can use is of use.
_STATUSES: Final = ("UP", "DRAIN", "MAINT", "DOWN")

_MAXIMA: Final = {
    "sessions_max": "sessions",
    "session_rate_max": "session_rate",
    "request_rate_max": "request_rate",
    "rate_max": "rate",
    "queue_max": "queue",
    "held_max": "held",
}


def merge(pictures: Sequence[Picture], pause: Pause = no_pause) -> Picture:
    """One picture of all of an instance's workers; what they are told `about` it is the first one's."""
    if not pictures:
        return {"workers": 0, "fronts": {}, "services": {}}
    return {
        **pictures[0],
        **_of_processes(pictures),
        "workers": sum(each["workers"] for each in pictures),
        "fronts": _by_name((each["fronts"] for each in pictures), _summed, pause),
        "services": _by_name((each["services"] for each in pictures), partial(_service, pause=pause), pause),
    }


def _of_processes(pictures: Sequence[Picture]) -> Picture:
    """What workers have in a mesh only. They all follow one table of live settings: the first one's word counts."""
    found = {key: [each[key] for each in pictures if key in each] for key in ("hub_lag", "figures")}
    merged = {key: _summed(those) for key, those in found.items() if those}
    for key in (LOAD, LOAD_REFUSED):
        if key in pictures[0].get("figures", {}):
            merged["figures"][key] = pictures[0]["figures"][key]
    return merged


def _by_name(
    tables: Iterable[dict[str, Picture]], combine: Callable[[Sequence[Picture]], Picture], pause: Pause
) -> dict[str, Picture]:
    found: dict[str, list[Picture]] = {}
    for table in tables:
        for name, picture in table.items():
            found.setdefault(name, []).append(picture)
    merged = {}
    for name, pictures in found.items():
        merged[name] = combine(pictures)
        pause()
    return merged


def _summed(pictures: Sequence[Picture]) -> Picture:
    """Numbers summed, tables of numbers too; of anything else the first one's. Maxima as they should be."""
    merged: Picture = {}
    for picture in pictures:
        for key, value in picture.items():
            merged[key] = _sum(merged[key], value) if key in merged else value
    for key, now in _MAXIMA.items():
        if key in merged:
            merged[key] = max(merged[now], *(each[key] for each in pictures))
    return merged


def _sum(one: Any, other: Any) -> Any:
    if isinstance(one, dict):
        return {**one, **{key: _sum(one[key], value) if key in one else value for key, value in other.items()}}
    if isinstance(one, int | float) and isinstance(other, int | float):
        total = one + other
        return round(total, 6) if isinstance(total, float) else total
    return one


def _service(pictures: Sequence[Picture], pause: Pause) -> Picture:
    sums = _summed([{key: value for key, value in each.items() if key != "backends"} for each in pictures])
    return {**sums, "backends": _by_name((each["backends"] for each in pictures), _backend, pause)}


def _backend(pictures: Sequence[Picture]) -> Picture:
    merged = _summed(pictures)
    statuses: dict[str, int] = merged["statuses"]
    best = min(statuses, key=_STATUSES.index)
    everybody = sum(statuses.values())
    merged["status"] = best if len(statuses) == 1 else f"{best} {statuses[best]}/{everybody}"
    # Of those who see it so; the others know of another time.
    agreeing = [each for each in pictures if each["status"].partition(" ")[0] == best]
    merged["status_s"] = min(each["status_s"] for each in agreeing)
    merged["downtime_s"] = max(each["downtime_s"] for each in pictures)
    merged["weight"] = round(sum(each["weight"] for each in pictures) / len(pictures), 3)
    merged["check"] = max(pictures, key=_badness)["check"]
    used = [each["last_used_s"] for each in pictures if each["last_used_s"] is not None]
    merged["last_used_s"] = min(used, default=None)
    merged["mean_s"] = _means(pictures)
    return merged


def _badness(picture: Picture) -> int:
    """The worker whose last check says most: one that doesn't see it up."""
    return _STATUSES.index(picture["status"].partition(" ")[0])


def _means(pictures: Sequence[Picture]) -> dict[str, float]:
    counts = [min(each["answered"], SAMPLES) for each in pictures]
    everything = sum(counts)
    if not everything:
        return dict.fromkeys(TIMES, 0.0)
    return {
        name: round(
            sum(each["mean_s"][name] * count for each, count in zip(pictures, counts, strict=True)) / everything, 6
        )
        for name in TIMES
    }

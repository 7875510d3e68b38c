"""Silences: alerts that nobody is told of until a time, as they stand in the settings stores. Pure.

    deploys/alerts/silences/eu-west/hub_lag/collector-1    one alert of one datacenter
    deploys/alerts/silences/*/disk                         a rule, everywhere

They are live settings like others: everybody sees them, in every datacenter, and who made them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

import msgspec
from msgspec import Struct

from hitmesh.config.live import ALERTS
from hitmesh.dashboard.alerts.memory import Moment
from hitmesh.dashboard.status import Silence
from hitmesh.settings import Setting
from hitmesh.visible import visible

SILENCES: Final = f"{ALERTS}silences/"
EVERYWHERE: Final = "*"
MAX_WHY_CHARS: Final = 200
MAX_SHOWN: Final = 100  # silences on the dashboard; those beyond hold too


class _Written(Struct, frozen=True):
    until: Moment
    why: str = ""


def key_of(name: str, dc: str = EVERYWHERE) -> str:
    """The setting of the silence of a rule, or of one alert."""
    return f"{SILENCES}{dc}/{name}"


def value_of(until: float, why: str) -> bytes:
    """What is written of one."""
    return msgspec.json.encode(_Written(until, why[:MAX_WHY_CHARS]))


def silences_among(settings: Mapping[str, Setting]) -> list[Silence]:
    """Those that stand among the settings, past ones too; what isn't one is none."""
    found = []
    for key in sorted(key for key in settings if key.startswith(SILENCES)):
        setting = settings[key]
        dc, separator, name = key.removeprefix(SILENCES).partition("/")
        if not separator:
            continue
        try:
            written = msgspec.json.decode(setting.value, type=_Written)
        except (msgspec.MsgspecError, ValueError, RecursionError):
            continue
        why = visible(written.why)[:MAX_WHY_CHARS]
        found.append(Silence(key=key, name=name, dc=dc, until=written.until, who=visible(setting.author), why=why))
    return found


def live_among(settings: Mapping[str, Setting], wall: float) -> list[Silence]:
    """All of them that aren't over, by the wall clock."""
    return [each for each in silences_among(settings) if wall < each.until]


def silence_of(silences: Iterable[Silence], dc: str, name: str, wall: float) -> Silence | None:
    """The one that holds for an alert the longest, by the wall clock; None: people are told of it."""
    held = [each for each in silences if wall < each.until and _covers(each, dc, name)]
    return max(held, key=lambda each: each.until, default=None)


def _covers(silence: Silence, dc: str, name: str) -> bool:
    """Whether it is about that alert: by its name, or its rule's."""
    return silence.dc in (EVERYWHERE, dc) and (name == silence.name or name.startswith(f"{silence.name}/"))

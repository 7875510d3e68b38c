"""Which of the backups that there are may go. Pure; standard library only.

Owns how a backup's name says its moment, and how many stay: the last one of each of the last days, weeks and
months that have any. So nothing goes because no new one comes, and the newest one never goes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Final

MOMENT: Final = "hitmesh-%Y-%m-%dT%H%M%SZ.backup"
_NAME: Final = re.compile(r"hitmesh-[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{6}Z\.backup", re.ASCII)


def moment_of(name: str) -> datetime | None:
    """When the backup of this name was begun; None for what isn't the name of one."""
    if not _NAME.fullmatch(name):
        return None
    try:
        return datetime.strptime(name, MOMENT).replace(tzinfo=UTC)
    except ValueError:  # the 31st of February
        return None


def may_go(names: Iterable[str], *, daily: int, weekly: int, monthly: int) -> list[str]:
    """The backups that needn't be kept, the oldest first; what isn't the name of one is none of them."""
    dated = sorted((moment, name) for name in names if (moment := moment_of(name)) is not None)
    kept = {name for _, name in dated[-1:]}
    spans: tuple[tuple[int, Callable[[datetime], tuple[int, ...]]], ...] = (
        (daily, lambda moment: (moment.year, moment.month, moment.day)),
        (weekly, lambda moment: tuple(moment.isocalendar())[:2]),
        (monthly, lambda moment: (moment.year, moment.month)),
    )
    for count, span in spans:
        last = {span(moment): name for moment, name in dated}  # of each span the last one, the spans in their order
        kept.update(list(last.values())[-count:] if count else ())
    return [name for _, name in dated if name not in kept]

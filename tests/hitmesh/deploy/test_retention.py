"""Which backups stay: the last of the last days, weeks and months that have one."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from hitmesh.cli import backup
from hitmesh.cli.backup_file import SUFFIX
from hitmesh.deploy.retention import MOMENT, may_go, moment_of

LAST = datetime(2026, 11, 30, 3, 0, tzinfo=UTC)  # a Monday


def names(count: int, step: timedelta = timedelta(days=1)) -> list[str]:
    """So many backups, the last one at LAST."""
    return [(LAST - n * step).strftime(MOMENT) for n in range(count)]


def kept(given: list[str], daily: int, weekly: int, monthly: int) -> list[str]:
    gone = may_go(given, daily=daily, weekly=weekly, monthly=monthly)
    return [name[8:18] for name in sorted(given) if name not in gone]


def test_the_last_of_each_day_week_and_month_stays() -> None:
    assert kept(names(400), 3, 2, 3) == ["2026-09-30", "2026-10-31", "2026-11-28", "2026-11-29", "2026-11-30"]


def test_of_a_day_with_several_the_last_one_stays() -> None:
    given = names(48, timedelta(hours=1))
    gone = may_go(given, daily=2, weekly=0, monthly=0)
    assert sorted(set(given) - set(gone)) == ["hitmesh-2026-11-29T230000Z.backup", "hitmesh-2026-11-30T030000Z.backup"]


def test_days_without_a_backup_count_for_nothing() -> None:
    assert kept(names(5, timedelta(days=100)), 3, 0, 0) == ["2026-05-14", "2026-08-22", "2026-11-30"]


def test_the_newest_one_always_stays() -> None:
    assert kept(names(9), 0, 0, 0) == ["2026-11-30"]


@pytest.mark.parametrize(
    "name", ["notes.txt", "hitmesh-2026-02-31T000000Z.backup", "hitmesh-2026-11-30T030000Z.backup/.."]
)
def test_what_is_no_backup_is_left_alone(name: str) -> None:
    assert moment_of(name) is None
    assert may_go([name, *names(2)], daily=0, weekly=0, monthly=0) == names(2)[1:]


def test_the_names_that_backup_gives_are_understood() -> None:
    name = Path(LAST.strftime(f"hitmesh-{backup.MOMENT}{SUFFIX}")).name
    assert moment_of(name) == LAST

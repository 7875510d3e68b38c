"""The schema of the statistics: numbered files of SQL beside this one, each applied once, in its order.

A file that was released is never changed: what comes later is another file, and one that a release before can live
beside, whose recorders go on writing. Several recorders at once do no harm: one of them applies, the others wait.
"""

from __future__ import annotations

import re
from importlib.resources import files
from typing import Any, Final, NamedTuple

import psycopg

LOCK: Final = 0x6869746D657368  # "hitmesh": of PostgreSQL's advisory locks
_NAME: Final = re.compile(r"([0-9]{4})_([a-z0-9_]+)\.sql")


class Migration(NamedTuple):
    """One file."""

    number: int
    name: str
    text: str


def migrations() -> list[Migration]:
    """All there are, in their order."""
    there = [(each, _NAME.fullmatch(each.name)) for each in (files("hitmesh.recorder") / "migrations").iterdir()]
    return sorted(Migration(int(name[1]), name[2], each.read_text(encoding="utf-8")) for each, name in there if name)


def migrate(connection: psycopg.Connection[Any]) -> list[int]:
    """Apply those that aren't yet; their numbers. Raises psycopg.Error; what was applied before stays."""
    applied = []
    for each in migrations():
        with connection.transaction():
            connection.execute("SELECT pg_advisory_xact_lock(%s)", (LOCK,))
            connection.execute(
                "CREATE TABLE IF NOT EXISTS hitmesh_migrations (number integer PRIMARY KEY, name text NOT NULL, "
                "applied_at timestamptz NOT NULL DEFAULT now())"
            )
            known = connection.execute("SELECT 1 FROM hitmesh_migrations WHERE number = %s", (each.number,)).fetchone()
            if known is None:
                connection.execute(each.text)
                connection.execute(
                    "INSERT INTO hitmesh_migrations (number, name) VALUES (%s, %s)", (each.number, each.name)
                )
                applied.append(each.number)
    return applied

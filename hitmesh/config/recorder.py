"""The `[recorder]` table: what recorders keep, and where else statistics go. Owns each setting's type, default, unit and
help; knows nothing of what a recorder does with it. Pure.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated
from urllib.parse import urlsplit

from msgspec import Meta

from hitmesh.config.sections import Section

MIB = 1024 * 1024


class RecorderTable(Section, frozen=True):
    """What each recorder of a datacenter keeps."""

    max_bytes: Annotated[
        int,
        Meta(ge=16 * MIB, le=2**50, description="of one recorder's volumes; the oldest ones go before there are more"),
    ] = 1024 * MIB
    max_days: Annotated[float, Meta(gt=0, le=36_500, description="after which a volume is deleted")] = 30.0
    postgresql: Annotated[
        str,
        Meta(
            description="where each minute's statistics go too: postgresql://USER@HOST[:PORT]/DATABASE; empty: nowhere"
        ),
    ] = ""
    postgresql_password_file: Annotated[
        str, Meta(description="with that user's password; relative to this file, and its reader's alone; empty: none")
    ] = ""


def recorder_problems(table: RecorderTable) -> Iterator[str]:
    """What contradicts within the table. No password is repeated."""
    if table.postgresql_password_file and not table.postgresql:
        yield "recorder.postgresql_password_file means nothing without recorder.postgresql"
    if not table.postgresql:
        return
    try:
        url = urlsplit(table.postgresql)
        parts, password, _ = (url.scheme, url.hostname, url.path.strip("/")), url.password, url.port
    except ValueError:
        parts, password = ("", "", ""), None
    if password is not None or "password=" in table.postgresql:
        yield "recorder.postgresql has a password in it; recorder.postgresql_password_file names a file for it"
    elif parts[0] not in ("postgresql", "postgres") or not all(parts):
        yield "recorder.postgresql isn't of the form postgresql://USER@HOST[:PORT]/DATABASE"

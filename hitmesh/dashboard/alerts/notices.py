"""A notice as people and programs get it: a webhook's JSON, a mail. Pure.

What is in it may be anybody's (names, reasons): it was made visible before, and is only text here.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime
from typing import Final

import msgspec

from hitmesh.dashboard.alerts.memory import Notice
from hitmesh.visible import visible

FORMAT: Final = 1  # of the JSON; fields may come to it, and a change of one makes it 2
MAX_SUBJECT_CHARS: Final = 150


def body(dc: str, notice: Notice) -> bytes:
    """What a webhook gets: one notice, as JSON.

    `id` is the firing's, the same from "firing" to "recovered"; with `number` it is this notice's, sent again or not.
    `text` says it all, for those who show a line (Slack, Mattermost).
    """
    return msgspec.json.encode(
        {
            "format": FORMAT,
            "id": notice.id,
            "number": notice.number,
            "kind": notice.kind,
            "dc": dc,
            "name": notice.name,
            "rule": notice.rule,
            "level": notice.level,
            "says": notice.says,
            "since": notice.since,
            "at": notice.at,
            "text": line(dc, notice),
        }
    )


def line(dc: str, notice: Notice) -> str:
    """One line for people."""
    return visible(f"{notice.kind}: {notice.says} ({dc} {notice.name}, {notice.level}, since {_moment(notice.since)})")


def mail(dc: str, notices: Sequence[Notice], *, sender: str, to: Sequence[str]) -> EmailMessage:
    """One mail with all of these. Its Message-ID is the same whenever the same are sent again."""
    message = EmailMessage(policy=SMTP)
    first, more = notices[0], len(notices) - 1
    subject = visible(f"[hitmesh {dc}] {first.kind}: {first.says}")[:MAX_SUBJECT_CHARS]
    message["Subject"] = subject + (f" and {more} more" if more else "")
    message["From"] = sender
    message["To"] = ", ".join(to)
    message["Date"] = format_datetime(datetime.fromtimestamp(first.at, UTC))
    message["Message-ID"] = f"<{first.id}.{first.number}.{more}@{sender.rpartition('@')[2]}>"
    message["Auto-Submitted"] = "auto-generated"  # RFC 3834: nobody's absence note answers it
    message.set_content("\n\n".join(_paragraph(dc, each) for each in notices) + f"\n\n-- \n{_help(dc)}\n")
    return message


def _paragraph(dc: str, notice: Notice) -> str:
    return "\n".join(
        visible(each)
        for each in (
            f"{notice.kind}: {notice.says}",
            f"  {dc} {notice.name} ({notice.level}), since {_moment(notice.since)}, told {_moment(notice.at)}",
            f"  id {notice.id}, number {notice.number}",
        )
    )


def _help(dc: str) -> str:
    return f"The dashboards of {dc} send this. `hitmesh alerts silence RULE --for 2h --why TEXT` silences one."


def _moment(wall: float) -> str:
    return datetime.fromtimestamp(wall, UTC).strftime("%Y-%m-%d %H:%M:%SZ")

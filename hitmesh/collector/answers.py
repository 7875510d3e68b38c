"""The form of a collector's answers: JSON, read by anybody's script, kept by nobody. Pure.

Errors are {"title", "description"}, also those to what isn't HTTP, which reach no app.
"""

from __future__ import annotations

from collections.abc import Collection
from http import HTTPStatus
from typing import Final

import msgspec

from hitmesh.collector.known import Total

# No total is the same a moment later, and nobody is to take JSON for something else.
FIELDS: Final = (
    ("Content-Type", "application/json"),
    ("Cache-Control", "no-store"),
    ("X-Content-Type-Options", "nosniff"),
)

# Why a request was answered with an error, as its metric tells them apart: what couldn't be read as a request, what is
# wrong as one, hits that weren't counted, hits that perhaps were, totals that aren't known now.
REASONS: Final = ("unreadable", "bad_request", "not_counted", "perhaps_counted", "not_known")

_REFUSAL: Final = "\r\n".join(
    (
        "HTTP/1.1 {status.value} {status.phrase}",
        "Connection: close",
        "Access-Control-Allow-Origin: *",
        *(f"{name}: {value}" for name, value in FIELDS),
        "Content-Length: {length}",
        "\r\n",
    )
)

encode = msgspec.json.Encoder().encode


def total_entry(page: str, total: Total, retired: Collection[str]) -> dict[str, object]:
    """A page's total as JSON has it; `retired` are datacenters that are gone for good."""
    ages = total.ages
    dcs: dict[str, dict[str, object]] = {}
    for dc, count in total.counts.items():
        age_s = ages[dc]
        dcs[dc] = {"count": count, "age_s": age_s if age_s is None else round(age_s, 3)}
    for dc in retired:
        if dc in dcs:
            dcs[dc] |= {"age_s": 0.0, "retired": True}
    return {"page": page, "total": total.total, "dcs": dcs}


def error_body(title: str, description: str) -> bytes:
    """An error's JSON."""
    return encode({"title": title, "description": description})


def refusal(status: HTTPStatus, description: str) -> bytes:
    """A whole answer to what can't be read as a request, the last one on its connection."""
    body = error_body(status.phrase, description)
    return _REFUSAL.format(status=status, length=len(body)).encode() + body

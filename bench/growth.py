"""The figures of `bench/run pages`, and the Markdown table that they make. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from bench.figures import mebibytes


@dataclass
class Column:
    """The figures for one number of pages."""

    pages: int
    consul_bytes: float = 0.0  # all of these: of one datacenter, the larger one
    consul_peak_bytes: float = 0.0
    processor_bytes: float = 0.0  # of all processors of a datacenter
    fill_s: float = 0.0
    commits_per_s: float = 0.0
    rows_per_s: float = 0.0
    again_commits_per_s: float = 0.0
    again_rows_per_s: float = 0.0
    agree_s: float | None = None  # after the last own commit; None: they don't
    list_s: float = 0.0
    list_bytes: float = 0.0
    hit_s: float = 0.0  # the slowest meanwhile
    partitions: int = 0  # of the processor that was killed
    silence_s: float = 0.0
    first_s: float = 0.0
    last_s: float = 0.0
    same: bool = False


def table(columns: Sequence[Column]) -> Iterator[str]:
    """The lines: a row for each figure, a column for each number of pages."""
    yield "| of one of two datacenters | " + " | ".join(f"{column.pages:,} pages in each" for column in columns) + " |"
    yield "|---|" + "---:|" * len(columns)
    lines: list[tuple[str, Callable[[Column], str]]] = [
        ("memory of Consul, at rest", lambda c: f"{mebibytes(c.consul_bytes)}, {_per_page(c.consul_bytes, c)}"),
        (
            "memory of Consul, at most",
            lambda c: f"{mebibytes(c.consul_peak_bytes)}, {_per_page(c.consul_peak_bytes, c)}",
        ),
        ("memory of its processors", lambda c: f"{mebibytes(c.processor_bytes)}, {_per_page(c.processor_bytes, c)}"),
        ("filled, one hit a page", lambda c: f"{c.fill_s:.0f} s"),
        ("commits of own rows, new pages", lambda c: f"{c.commits_per_s:,.0f}/s, {c.rows_per_s:,.0f} rows/s"),
        (
            "commits of own rows, known pages",
            lambda c: f"{c.again_commits_per_s:,.0f}/s, {c.again_rows_per_s:,.0f} rows/s",
        ),
        ("both agree, after the last own commit", lambda c: "never" if c.agree_s is None else f"{c.agree_s:.1f} s"),
        ("`/totals?sort=top&limit=10`", lambda c: f"{c.list_s:.2f} s"),
        ("memory that this takes in its collector", lambda c: mebibytes(c.list_bytes)),
        ("the slowest `/total/<page>` meanwhile", lambda c: f"{c.hit_s * 1000:.0f} ms"),
        ("a processor killed: until it counts as dead", lambda c: f"{c.silence_s:.1f} s"),
        ("then until its first partition is taken over", lambda c: f"{c.first_s:.2f} s"),
        ("then until all are taken over", lambda c: f"{c.last_s:.2f} s ({c.partitions})"),
        ("stores equal, page by page, and to the hit", lambda c: "yes" if c.same else "NO"),
    ]
    for title, show in lines:
        yield f"| {title} | " + " | ".join(show(column) for column in columns) + " |"


def _per_page(value: float, column: Column) -> str:
    return f"{value / column.pages:,.0f} bytes a page"

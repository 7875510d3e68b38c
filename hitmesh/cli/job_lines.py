"""A spool's jobs as `hitmesh spool` shows them. Pure."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Final

from msgspec import Struct

from hitmesh.cli.columns import columns
from hitmesh.cli.live_lines import moment
from hitmesh.cli.picture import duration
from hitmesh.errors import DecodeError
from hitmesh.protocol.messages import Job, decode
from hitmesh.spool import Held
from hitmesh.visible import visible

SHOWN_PAGES: Final = 20  # of a part; --json has all


class JobLine(Struct, frozen=True):
    """One job in short."""

    dc: str
    copy: int
    number: int
    state: str
    claims: int
    bytes: int
    problem: str  # why it can't be read; then nothing of what follows is known
    worker: str | None = None
    age_s: float | None = None  # by this host's clock; below 0: it comes from one that is ahead
    hits: int | None = None
    pages: int | None = None


def job_line(dc: str, copy: int, held: Held, now_s: float) -> JobLine:
    """A job in short."""
    short = (dc, copy, held.number, held.state, held.claims, len(held.body))
    try:
        job = decode(held.body, Job)
    except DecodeError as error:
        return JobLine(*short, str(error))
    return JobLine(
        *short,
        "",
        worker=job.worker,
        age_s=round(now_s - job.created_ms / 1000, 1),
        hits=sum(sum(part.counts.values()) for part in job.parts),
        pages=sum(len(part.counts) for part in job.parts),
    )


def jobs_table(jobs: Sequence[JobLine]) -> str:
    """Columns for people."""
    rows: list[tuple[str, ...]] = [("DC", "ID", "STATE", "GIVEN OUT", "AGE", "HITS", "PAGES", "WORKER")]
    for each in jobs:
        known = (
            ("-", "-", "-", f"not a job: {each.problem}")
            if each.problem
            else (_age(each.age_s), str(each.hits), str(each.pages), str(each.worker))
        )
        rows.append((each.dc, f"{each.copy}/{each.number}", each.state, str(each.claims), *known))
    return columns(rows)


def job_text(dc: str, copy: int, held: Held, now_s: float, *, as_json: bool) -> str:
    """One job with all that is in it."""
    line = job_line(dc, copy, held, now_s)
    parts = [] if line.problem else decode(held.body, Job).parts
    if as_json:
        shown = {name: getattr(line, name) for name in JobLine.__struct_fields__}
        shown["parts"] = [
            {"partition": part.partition, "sequence": part.seq, "low": part.low, "counts": part.counts}
            for part in parts
        ]
        return json.dumps(shown, indent=2)
    given_out = {0: "never given out", 1: "given out once"}.get(line.claims, f"given out {line.claims} times")
    lines = [f"job {copy}/{line.number} of {dc}: {line.state}, {given_out}, {line.bytes} bytes"]
    if line.problem:
        return visible(f"{lines[0]}; it is not a job of ours: {line.problem}")
    assert line.age_s is not None
    lines.append(
        f"lane of worker {line.worker}, made {moment(now_s - line.age_s)}, {_age(line.age_s)}: "
        f"{line.hits} hits on {line.pages} pages"
    )
    for part in parts:
        lines.append(f"  partition {part.partition}, sequence {part.seq} (all below {part.low} is done)")
        pages = sorted(part.counts.items(), key=lambda each: (-each[1], each[0]))
        lines += [f"  {count:>10}  {page}" for page, count in pages[:SHOWN_PAGES]]
        if len(pages) > SHOWN_PAGES:
            lines.append(f"  {'':>10}  and {len(pages) - SHOWN_PAGES} more pages")
    return "\n".join(map(visible, lines))


def _age(age_s: float | None) -> str:
    assert age_s is not None
    return f"{duration(age_s)} old" if age_s >= 0 else f"{duration(-age_s)} ahead of this clock"

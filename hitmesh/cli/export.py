"""`hitmesh export`: every page's total as a table for other programs, whether the mesh runs or not."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Final, Literal

import click

from hitmesh.cli.new_file import new_file
from hitmesh.cli.options import state_dir_option
from hitmesh.cli.totals import entry, read, told
from hitmesh.errors import CommandError
from hitmesh.protocol.pages import is_below

Format = Literal["csv", "jsonl"]
SUFFIXES: Final[dict[str, Format]] = {".csv": "csv", ".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "jsonl"}
HEADER: Final = ("page", "total")


@click.command(short_help="Write every page's total as CSV or JSON lines.")
@click.argument("path", metavar="FILE", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--prefix", default="", metavar="P", help="Only pages that start with this, such as example.com/.")
@click.option("--format", "chosen", type=click.Choice(("csv", "jsonl")), help="By default what FILE's name ends with.")
@state_dir_option
def export(path: Path, prefix: str, chosen: Format | None, state_dir: Path) -> None:
    """Write every page with its total into FILE, which must not be there yet; in the order of names.

    CSV has a line `page,total` and then one for each page; JSON lines are {"page", "total", "dcs"}, with each
    datacenter's part. `-` is standard output. A datacenter whose store isn't here is told by another one's copy,
    which is said. What can't be read makes it fail: no file then.

    \b
    Example:
      hitmesh export totals.csv
      hitmesh export - --format jsonl --prefix example.com/ | head
    """
    kind = chosen or _kind(path)
    totals = told(read(state_dir))
    pages = sorted(page for page in totals if is_below(page, prefix))
    entries = (entry(page, totals[page]) for page in pages)
    lines = _csv(entries) if kind == "csv" else (json.dumps(each) + "\n" for each in entries)
    with new_file(path) as out:
        out.writelines(line.encode() for line in lines)
    if str(path) != "-":
        print(f"{len(pages):,} pages in {path}")


def _kind(path: Path) -> Format:
    if str(path) == "-":
        return "csv"
    if path.suffix not in SUFFIXES:
        raise CommandError(
            f"{path} ends with none of {', '.join(SUFFIXES)}", hint="--format csv or --format jsonl says which it is"
        )
    return SUFFIXES[path.suffix]


def _csv(entries: Iterator[dict[str, object]]) -> Iterator[str]:
    for row in (HEADER, *((each["page"], each["total"]) for each in entries)):
        line = io.StringIO(newline="")
        csv.writer(line, lineterminator="\n").writerow(row)
        yield line.getvalue()

"""`hitmesh total` and `hitmesh top`: totals from the stores, whether the mesh runs or not."""

from __future__ import annotations

import contextlib
import heapq
import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import click

from hitmesh.cli import folder
from hitmesh.cli.live_lines import moment
from hitmesh.cli.options import json_option, state_dir_option, watch_option
from hitmesh.cli.redraw import redraw
from hitmesh.cli.stderr import warn
from hitmesh.cli.subtotals import Source, Subtotal, Together, put_together
from hitmesh.config import Config
from hitmesh.errors import CommandError, StoreUnknown
from hitmesh.protocol.pages import check_page, is_below, partition_of, trim
from hitmesh.visible import visible

Totals = Mapping[str, Mapping[str, Subtotal]]
"""page -> datacenter -> its own count."""


@click.command(short_help="Show the total of a page.")
@click.argument("page", metavar="PAGE")
@state_dir_option
@json_option
def total(page: str, state_dir: Path, as_json: bool) -> None:
    """Show the total of PAGE, written site/path and not percent-encoded, and each datacenter's part.

    Each datacenter's part comes from its own store. Of one whose store can't be read, or isn't here,
    another datacenter's copy is taken, with its age; it is an error if there is none. A page that
    nobody has hit has a total of 0.

    \b
    Example:
      hitmesh total example.com/front
    """
    pages = list(dict.fromkeys([check_page(page), check_page(trim(page))]))  # where slashes are kept it is a page too
    totals = told(read(state_dir, pages))
    page = next((each for each in pages if each in totals), pages[-1])
    found = entry(page, totals.get(page, {}))
    print(json.dumps(found) if as_json else line(found))


@click.command(short_help="Show the pages with the highest totals.")
@click.option(
    "--prefix",
    default="",
    metavar="P",
    help="Only pages that start with this, such as example.com/blog/, which example.com/blog does too.",
)
@click.option("-n", "count", type=click.IntRange(1), default=10, show_default=True, metavar="N", help="How many.")
@state_dir_option
@json_option
@watch_option
def top(prefix: str, count: int, state_dir: Path, as_json: bool, watch: bool) -> None:
    """Show the pages with the highest totals, the highest first; among equals by name.

    \b
    Example:
      hitmesh top --prefix example.com/ -n 20
      hitmesh top -w                            # each second anew, until Ctrl-C
    """
    if watch:
        redraw(lambda: _watched(read(state_dir), prefix, count, as_json=as_json))
        return
    entries = highest(told(read(state_dir), some=True), prefix, count)
    if as_json:
        print(json.dumps(entries, indent=2))
    else:
        for each in entries:
            print(line(each))


def highest(totals: Totals, prefix: str, count: int) -> list[dict[str, object]]:
    """The entries of the `count` pages below `prefix` with the highest totals."""
    below = [page for page in totals if is_below(page, prefix)]
    first = heapq.nsmallest(count, below, key=lambda page: (-sum_of(totals[page]), page))
    return [entry(page, totals[page]) for page in first]


def _watched(found: Together, prefix: str, count: int, *, as_json: bool) -> list[str]:
    entries = highest(found.totals, prefix, count)
    if as_json:
        return [json.dumps(entries)]
    notes = [f"! {missing.line}" for missing in found.missing]
    return [f"hitmesh top, {moment(time.time())}", *notes, "", *map(line, entries)]


def told(found: Together, *, some: bool = False) -> Totals:
    """The totals; says on stderr what isn't from a datacenter's own store. Raises CommandError for what nobody has.

    `some`: what is in partitions that can't be read may be missing, and is named.
    """
    for missing in found.missing:
        if not missing.copies and not (some and missing.is_part):
            raise CommandError(missing.line)
    for missing in found.missing:
        warn(missing.line)
    return found.totals


def read(state_dir: Path, pages: Sequence[str] | None = None) -> Together:
    """The counts of these pages, or of all, from every store of the state folder."""
    configs = folder.datacenters(state_dir)
    return put_together([_read(config, state_dir, pages, others=len(configs) > 1) for config in configs], time.time())


def _read(config: Config, state_dir: Path, pages: Sequence[str] | None, *, others: bool) -> Source:
    from hitmesh.store.open import open_store
    from hitmesh.store.totals import listing_of, read_listing

    has_peers = others or bool(config.peers)
    with contextlib.closing(open_store(config, state_dir / config.name)) as store:
        try:
            if pages is None:
                listing = read_listing(store, partitions=config.partitions, has_peers=has_peers)
            else:
                wanted: dict[int, list[str]] = {}
                for page in pages:
                    wanted.setdefault(partition_of(page, config.partitions), []).append(page)
                found = ((at, *head_and_rows) for at, head_and_rows in store.read(wanted).items())
                listing = listing_of(found, partitions=wanted, has_peers=has_peers)
        except StoreUnknown as error:
            return Source(config.name, config.partitions, None, f"the totals of {config.name} can't be read: {error}")
    return Source(config.name, config.partitions, listing)


def sum_of(dcs: Mapping[str, Subtotal]) -> int:
    """A page's total."""
    return sum(each.count for each in dcs.values())


def entry(page: str, dcs: Mapping[str, Subtotal]) -> dict[str, object]:
    """A page's total as JSON has it; `age_s` is of a count that is another datacenter's copy."""
    return {
        "page": page,
        "total": sum_of(dcs),
        "dcs": {
            dc: {"count": each.count} | ({} if each.age_s is None else {"age_s": each.age_s})
            for dc, each in dcs.items()
        },
    }


def line(entry: Mapping[str, object]) -> str:
    """A page's total for people."""
    dcs = entry["dcs"]
    assert isinstance(dcs, dict)
    parts = ", ".join(
        f"{dc} {each['count']}" + (f", {each['age_s']:.0f} s ago" if "age_s" in each else "")
        for dc, each in dcs.items()
    )
    return visible(f"{entry['total']:>12}  {entry['page']}" + (f"  ({parts})" if parts else ""))

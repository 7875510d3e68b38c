"""`hitmesh total` and `hitmesh top`: totals from the stores, whether the mesh runs or not."""

from __future__ import annotations

import heapq
import json
from collections.abc import Mapping
from pathlib import Path

import click

from hitmesh.cli import folder
from hitmesh.cli.options import json_option, state_dir_option
from hitmesh.config import Config
from hitmesh.errors import CommandError, StoreUnknown
from hitmesh.protocol.pages import check_page, trim

Totals = dict[str, dict[str, int]]
"""page -> datacenter -> its own count."""


@click.command(short_help="Show the total of a page.")
@click.argument("page", metavar="PAGE")
@state_dir_option
@json_option
def total(page: str, state_dir: Path, as_json: bool) -> None:
    r"""Show the total of PAGE, written site/path and not percent-encoded, and each datacenter's part.

    A page that nobody has hit has a total of 0. A store that can't be read is an error.

    \b
    Example:
      hitmesh total example.com/front
    """
    page = check_page(trim(page))
    found = entry(page, read_all(state_dir).get(page, {}))
    print(json.dumps(found) if as_json else line(found))


@click.command(short_help="Show the pages with the highest totals.")
@click.option("--prefix", default="", metavar="P", help="Only pages that start with this, such as example.com/blog/")
@click.option("-n", "count", type=click.IntRange(1), default=10, show_default=True, metavar="N", help="How many.")
@state_dir_option
@json_option
def top(prefix: str, count: int, state_dir: Path, as_json: bool) -> None:
    r"""Show the pages with the highest totals, the highest first; among equals by name.

    \b
    Example:
      hitmesh top --prefix example.com/ -n 20
    """
    totals = {page: dcs for page, dcs in read_all(state_dir).items() if page.startswith(prefix)}
    first = heapq.nsmallest(count, totals, key=lambda page: (-sum(totals[page].values()), page))
    entries = [entry(page, totals[page]) for page in first]
    if as_json:
        print(json.dumps(entries, indent=2, ensure_ascii=False))
    else:
        for each in entries:
            print(line(each))


def read_all(state_dir: Path) -> Totals:
    """Every page's counts, each datacenter's own from its own store. Raises CommandError naming the datacenter."""
    found: Totals = {}
    for config in folder.datacenters(state_dir):
        for page, dcs in _read(config, state_dir).items():
            if config.name in dcs:
                found.setdefault(page, {})[config.name] = dcs[config.name]
    return found


def _read(config: Config, state_dir: Path) -> Totals:
    from hitmesh.store.open import open_store
    from hitmesh.store.totals import read_totals

    store = open_store(config, state_dir / config.name)
    try:
        return read_totals(store)
    except StoreUnknown as error:
        raise CommandError(f"the totals of {config.name} can't be read: {error}") from error
    finally:
        store.close()


def entry(page: str, dcs: Mapping[str, int]) -> dict[str, object]:
    """A page's total as JSON has it."""
    return {"page": page, "total": sum(dcs.values()), "dcs": {dc: {"count": count} for dc, count in dcs.items()}}


def line(entry: Mapping[str, object]) -> str:
    """A page's total for people."""
    dcs = entry["dcs"]
    assert isinstance(dcs, dict)
    parts = ", ".join(f"{dc} {each['count']}" for dc, each in dcs.items())
    return f"{entry['total']:>12}  {entry['page']}" + (f"  ({parts})" if parts else "")

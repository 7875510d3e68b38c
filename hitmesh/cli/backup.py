"""`hitmesh backup`: totals, settings and routes of a whole mesh as one file, taken while it runs.

Owns from which store each datacenter's counts are taken, and when that isn't good enough. What the file
looks like is `backup_file`'s, and how it is brought back `restore`'s.

A partition is read at one moment, its lanes with its rows. So each count in a backup was true while it was
made, and jobs that are still in a spool when it is brought back are counted then, once.
"""

from __future__ import annotations

import contextlib
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import click
import msgspec

from hitmesh import __version__
from hitmesh.cli.backup_file import SUFFIX, From, Header, Partition, Rows, Setting, Writer
from hitmesh.cli.datacenter import Mesh, age_said
from hitmesh.cli.new_file import new_file
from hitmesh.cli.options import json_option, state_dir_option
from hitmesh.cli.stderr import show, warn
from hitmesh.config import Config
from hitmesh.config.live import DEPLOYS, FORMATS
from hitmesh.errors import CommandError, StoreUnknown
from hitmesh.protocol.messages import MAX_CHUNK_ROWS, Head, Origin, OriginRow, Position
from hitmesh.settings import Edition, live_settings
from hitmesh.store import Row
from hitmesh.visible import visible

MAX_AGE_S: Final = 60.0  # of a copy: while a link is up it is a second old, and a minute is no news to anybody
MOMENT: Final = "%Y-%m-%dT%H%M%SZ"  # in a file's name: no colons, which other systems' names can't have


@click.command(short_help="Write totals, settings and routes into one file.")
@click.argument("path", metavar="FILE", type=click.Path(path_type=Path))
@click.option("--stale", is_flag=True, help="Also with what is older than a minute, or of unknown age; says so.")
@state_dir_option
@json_option
def backup(path: Path, stale: bool, state_dir: Path, as_json: bool) -> None:
    """Write the totals, settings and routes of the whole mesh into FILE, which must not be there yet.

    `-` is standard output, and in a folder the file is named by the moment, hitmesh-2026-11-30T000501Z.backup.
    The mesh goes on meanwhile. Each datacenter's counts come from its own store; of one whose store isn't
    here, from the copy here, if its age is known and below a minute. Otherwise nothing is written, unless
    --stale says that any copy will do: how old each is stands in the file's first line.

    \b
    Example:
      hitmesh backup /var/backups/
      hitmesh backup - | ssh hitmesh-vault@vault.example.com put "hitmesh-$(date -u +%Y-%m-%dT%H%M%SZ).backup"
    """
    at = time.gmtime()
    if path.is_dir():
        path /= f"hitmesh-{time.strftime(MOMENT, at)}{SUFFIX}"
    mesh = Mesh(None, state_dir)
    with contextlib.closing(Writer(None if str(path) == "-" else path.parent)) as writer:
        collect(mesh, state_dir, writer, stale=stale)
        header = Header(
            release=__version__,
            at=time.strftime("%Y-%m-%dT%H:%M:%SZ", at),
            partitions=mesh.configs[0].partitions,
            datacenters={},
        )
        with new_file(path) as out:
            header = writer.finish(header, out)
    if str(path) == "-":
        for line in text(header, "standard output"):
            show(line)
    elif as_json:
        print(msgspec.json.encode({"file": str(path), **msgspec.to_builtins(header)}).decode())
    else:
        print("\n".join(text(header, str(path))))


def text(header: Header, name: str) -> list[str]:
    """What is in a backup, for people."""
    width = max((len(dc) for dc in header.datacenters), default=0)
    return [
        visible(
            f"{name}: {header.hits} hits of {header.pages} pages and {header.settings} settings, as of {header.at}"
        ),
        *(
            visible(f"  {dc:{width}}  {each.hits} hits of {each.pages} pages, {_origin(each)}")
            for dc, each in header.datacenters.items()
        ),
    ]


def _origin(source: From) -> str:
    if not source.copy_in:
        return "from its own store"
    age = "of unknown age" if source.age_s is None else f"{source.age_s:.0f} s old at most"
    return f"from {source.copy_in}'s copy, {age}"


# --- from where ---------------------------------------------------------------------------


def collect(mesh: Mesh, state_dir: Path, writer: Writer, *, stale: bool) -> None:
    """Put everything into `writer`. Raises CommandError for what can't be had."""
    given = {config.partitions for config in mesh.configs}
    if len(given) > 1:
        raise CommandError(f"the datacenters have different numbers of partitions: {sorted(given)}")
    sources = _sources(mesh, state_dir, stale=stale)
    for dc, source in sources.items():
        writer.source(dc, source)
    for config in mesh.configs:
        dcs = [dc for dc, source in sources.items() if (source.copy_in or dc) == config.name]
        if dcs:
            _read(config, state_dir / config.name, dcs, writer)
    for edition in _editions(mesh.configs, state_dir, stale=stale).values():
        assert edition.value is not None
        writer.add(Setting(edition.key, edition.value.decode(), edition.version, edition.author, edition.changed_at))


def _sources(mesh: Mesh, state_dir: Path, *, stale: bool) -> dict[str, From]:
    """From which store each datacenter's counts are to be taken."""
    readable, why = [], {}
    for config in mesh.configs:
        if reason := _trouble(config, state_dir / config.name):
            why[config.name] = reason
        else:
            readable.append(config.name)
    if not readable or (why and not stale):
        raise CommandError(
            "; ".join(f"{dc}: {reason}" for dc, reason in why.items()),
            hint="--stale takes other datacenters' copies" if readable else "",
        )
    found, refused = {}, []
    for known in mesh.known():
        if known.dc in readable:
            found[known.dc] = From()
            continue
        ages = {where: age_said(known.dc, where, mesh.heard[where]) for where in readable}
        where, age_s = min(ages.items(), key=lambda each: (each[1] is None, each[1] or 0.0))
        if age_s is None and known.copy_in in readable:
            where = known.copy_in
        is_young = age_s is not None and age_s <= MAX_AGE_S
        found[known.dc] = From(copy_in=where, age_s=None if age_s is None else round(age_s, 3))
        if is_young or known.state == "retired":
            continue
        age = f"is {age_s:.0f} s old" if age_s is not None else "has an age that nobody says"
        line = f"the copy of {known.dc}'s counts in {where} {age}: {why.get(known.dc, 'its own store is not here')}"
        if not stale:
            refused.append(line)
        warn(line)
    if refused:
        raise CommandError(
            f"nothing was written, since {len(refused)} of {len(found)} datacenters would be incomplete",
            hint="--stale takes what there is, and says so in the file",
        )
    return found


def _trouble(config: Config, base: Path) -> str:
    """Why a store can't say all that its datacenter has counted; empty when it can."""
    from hitmesh.store.open import open_store
    from hitmesh.store.totals import decode_head

    with contextlib.closing(open_store(config, base)) as store:
        try:
            found = store.read(dict.fromkeys(range(config.partitions), ()))
            heads = [decode_head(at, stored) for at, (stored, _) in found.items() if stored is not None]
        except StoreUnknown as error:
            return f"the totals can't be read: {error}"
    if len(heads) < config.partitions:
        return f"{config.partitions - len(heads)} partitions have no head: they were never used, or were wiped"
    restoring = sum(head.restoring for head in heads)
    return f"{restoring} partitions are still being brought back" if restoring else ""


# --- what is written ----------------------------------------------------------------------


def _read(config: Config, base: Path, dcs: Sequence[str], writer: Writer) -> None:
    """All that this store says of these datacenters. Raises CommandError for whatever it can't say."""
    from hitmesh.store.open import open_store
    from hitmesh.store.totals import decode_head, read_partition

    now_s = int(time.time())
    seen = set()
    with contextlib.closing(open_store(config, base)) as store:
        try:
            for partition, stored, rows in store.scan():
                read_partition(partition, stored, rows)  # that each row can be one
                if stored is None or (head := decode_head(partition, stored)).restoring:
                    raise StoreUnknown(f"partition {partition} is being brought back")
                seen.add(partition)
                by_dc = _rows(head, rows)
                for dc in dcs:
                    if origin := _state(head, own=dc == config.name, dc=dc, now_s=now_s):
                        writer.add(Partition(dc, partition, origin))
                        some = by_dc.get(dc, [])
                        for start in range(0, len(some), MAX_CHUNK_ROWS):
                            writer.add(Rows(dc, partition, tuple(some[start : start + MAX_CHUNK_ROWS])))
        except StoreUnknown as error:
            raise CommandError(f"the totals of {config.name} can't be read: {error}") from error
    if missing := set(range(config.partitions)) - seen:
        raise CommandError(f"partitions of {config.name} were removed while they were read: {sorted(missing)}")


def _state(head: Head, *, own: bool, dc: str, now_s: int) -> Origin | None:
    """How far a head is with a datacenter; None where it has counted nothing."""
    if not own:
        return head.origins.get(dc)
    return Origin(Position(head.ledger, head.epoch, head.commit), head.hits, head.lanes, now_s) if head.commit else None


def _rows(head: Head, rows: Sequence[Row]) -> Mapping[str, list[OriginRow]]:
    """The rows as of the head's commit, by datacenter."""
    found: defaultdict[str, dict[str, OriginRow]] = defaultdict(dict)
    redo = [Row(row.page, row.dc, row.count, row.commit) for row in head.redo]
    for row in (*rows, *redo):
        found[row.dc][row.page] = OriginRow(row.page, row.count, row.commit)
    return {dc: list(pages.values()) for dc, pages in found.items()}


def _editions(configs: Sequence[Config], state_dir: Path, *, stale: bool) -> Mapping[str, Edition]:
    """The live settings; of what two stores say of one the later word counts. Raises CommandError.

    Without what is true of the mesh as it runs, and no other: who deploys, what fires, and which formats everybody
    there reads.
    """
    from hitmesh.settings.merging import newer
    from hitmesh.settings.open import open_settings

    latest: dict[str, Edition] = {}
    failed = []
    for config in configs:
        with contextlib.closing(open_settings(config.stores.settings, state_dir / config.name)) as store:
            try:
                latest.update({each.key: each for each in newer(store.editions().values(), latest)})
            except StoreUnknown as error:
                failed.append(f"the settings of {config.name} can't be read: {error}")
    if failed and (not stale or len(failed) == len(configs)):
        raise CommandError("; ".join(failed))
    for line in failed:
        warn(line)
    return {key: latest[key] for key in live_settings(latest) if not key.startswith((DEPLOYS, FORMATS))}

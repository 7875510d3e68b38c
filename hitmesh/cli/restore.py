"""`hitmesh restore`: brings a backup back into a mesh that has no totals, in a new era.

One datacenter gets everything: its own rows and lanes, and those of all others as the copy that it has of
them. The others, empty too, take theirs from it as after any loss of a store (`processor/restoring.py`), so
there is one mechanism, and all agree. Every partition begins another history (ledger) in another era of
epochs: a datacenter that was forgotten, and still has its old rows, is refused loudly and mixes with nothing.

First every partition gets a word in place of its head that no processor can read; then the rows are written;
then the heads. So nobody counts on what is only half there, and the same command finishes what broke off.
"""

from __future__ import annotations

import contextlib
import secrets
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Final, TypeVar

import click
from msgspec import Struct

from hitmesh.cli.backup_file import BackupFile, Partition, Rows
from hitmesh.cli.datacenter import Mesh
from hitmesh.cli.options import state_dir_option
from hitmesh.cli.supervision import Supervisor
from hitmesh.config import Config
from hitmesh.errors import CommandError, DecodeError, StoreUnknown
from hitmesh.protocol.messages import ERA, UNFINISHED, Head, Origin, Position, decode_head, encode, make
from hitmesh.settings import Edition, SettingsStore
from hitmesh.store import Done, Row, TotalsStore, Unknown, Write
from hitmesh.visible import visible

T = TypeVar("T")

COUNTS: Final = "the mesh counts"
"""How the refusal begins of a mesh that wasn't stopped."""
COUNTING: Final = ("processor", "collector", "scaler")  # the roles that must not run meanwhile: one starts others
ROW_BYTES: Final = 200  # of a row in a write beside its page, at most: its count, and the longest name of a datacenter


@click.command(short_help="Bring a backup back into an empty mesh.")
@click.argument("path", metavar="FILE", type=click.Path(path_type=Path))
@click.option("--dc", metavar="NAME", help="Which datacenter gets it; the first one's by default.")
@click.option("--dry", is_flag=True, help="Only see whether it could be brought back; nothing is changed.")
@state_dir_option
def restore(path: Path, dc: str | None, dry: bool, state_dir: Path) -> None:
    """Bring the backup in FILE (`-`: standard input) back into a mesh that has no totals, and doesn't run.

    Every datacenter's totals store must be empty; the spools stay as they are. One datacenter gets all of it,
    and the others take theirs from that one when they start. Hits that are still in a spool and not in the
    backup are counted then; those whose jobs were done with after the backup are lost. Live settings and
    routes are set to what they were, in newer versions; others that are set now stay.

    A file that was cut or altered is refused. If this is interrupted nobody counts; do the same again.

    \b
    Example:
      hitmesh down
      rm var/*/totals.db*
      hitmesh restore /var/backups/hitmesh-2026-11-30T000501Z.backup
      hitmesh up -d
    """
    with BackupFile(path) as backup:
        mesh = Mesh(None, state_dir)
        if not dry:
            check_stopped(mesh, state_dir)
        said = bring_back(backup, mesh.configs, state_dir, dc, dry=dry)
        if dry:  # last, since what else is in the way is to be known before anybody is stopped
            check_stopped(mesh, state_dir)
        print("\n".join(said))


def bring_back(
    backup: BackupFile, configs: list[Config], state_dir: Path, dc: str | None = None, *, dry: bool = False
) -> list[str]:
    """Restore it into the datacenter `dc` of a mesh that doesn't run; what to say of it. Raises CommandError.

    With `dry` all is looked at, and nothing is written.
    """
    from hitmesh.settings.open import open_settings
    from hitmesh.store.open import open_store

    header = backup.header
    contents = _read(backup)  # all of it can be, before anything is changed
    config = _target(configs, dc, header.datacenters)
    if config.partitions != header.partitions:
        raise CommandError(
            f"{config.name} has {config.partitions} partitions, and the backup {header.partitions}",
            hint="a mesh keeps its number of partitions",
        )
    mark = UNFINISHED + backup.digest.encode()
    owner = f"restore.{backup.digest[:16]}"
    for each in configs:
        with contextlib.closing(open_store(each, state_dir / each.name)) as store:
            _check_empty(store, each, mark if each is config else b"", owner)
    if dry:
        return [visible(f"{config.name} could have what was counted until {header.at}")]
    base = state_dir / config.name
    with contextlib.closing(open_settings(config.stores.settings, base)) as settings:
        _asked(config, "settings", settings.check)
        with contextlib.closing(open_store(config, base)) as store:
            lost = _Restore(store, config, contents, mark, owner).run(backup)
        told = _asked(config, "settings", lambda: _set(settings, contents.settings, f"restore of {header.at}"))
    others = [name for name in header.datacenters if name != config.name]
    counted = f"{header.hits} hits of {header.pages} pages, of {len(header.datacenters)} datacenters"
    lines = [f"{config.name} has what was counted until {header.at}: {counted}", told]
    if lost:
        lines.append(f"{lost} hits of {config.name} had no rows in the backup: they are lost, as `hitmesh audit` says")
    if others:
        lines.append(
            f"start it; {', '.join(others)} {'take' if others[1:] else 'takes'} theirs from it, each when its totals store is empty"
        )
    return [visible(line) for line in lines]


def check_stopped(mesh: Mesh, state_dir: Path) -> None:
    """Raise CommandError when somebody counts, in whatever datacenter."""
    programs = Supervisor(state_dir).programs() or []
    running = {each.full_name for each in programs if each.pid and each.role in COUNTING}
    running |= {
        f"{seen.instance.dc}-{seen.instance.name}"
        for heard in mesh.heard.values()
        for seen in heard
        if seen.alive and seen.instance.role in COUNTING
    }
    if running:
        raise CommandError(
            f"{COUNTS}: {', '.join(sorted(running))} run",
            hint="stop every collector, processor and scaler of every datacenter first",
        )


class _Contents(Struct):
    """What the whole file says, but for its rows."""

    origins: dict[int, dict[str, Origin]]  # partition -> datacenter
    sums: dict[tuple[int, str], int]  # of the rows
    settings: list[Edition]


def _read(backup: BackupFile) -> _Contents:
    contents = _Contents(defaultdict(dict), defaultdict(int), [])
    for line in backup.lines():
        if isinstance(line, Partition):
            contents.origins[line.partition][line.dc] = line.origin
        elif isinstance(line, Rows):
            contents.sums[line.partition, line.dc] += sum(row.count for row in line.rows)
        else:
            contents.settings.append(line.edition)
    return contents


def _target(configs: list[Config], dc: str | None, in_backup: Mapping[str, object]) -> Config:
    for config in configs:
        if config.name == dc or (dc is None and config.name in in_backup):
            return config
    here = ", ".join(config.name for config in configs)
    if dc is not None:
        raise CommandError(f"no datacenter is called {dc!r} here", hint=f"there is {here}")
    raise CommandError(
        f"the backup is of {', '.join(in_backup) or 'nothing'}; here is {here}",
        hint="--dc names one that is to have it all the same",
    )


def _check_empty(store: TotalsStore, config: Config, mark: bytes, owner: str) -> None:
    """Raise CommandError when a datacenter has totals, or an attempt with another backup broke off there."""

    def look() -> None:
        for _, stored, rows in store.scan():
            if stored is not None and mark and (stored.body == mark or _owner(stored.body) == owner):
                continue  # of this very restore
            if stored is not None and stored.body.startswith(UNFINISHED):
                raise CommandError(
                    f"a restore of another backup broke off in {config.name}",
                    hint="finish it with the same file, or remove what it has written",
                )
            if rows or stored is not None:  # the first will do: a mesh that runs may have a million
                raise CommandError(
                    f"{config.name} has totals: a backup is brought back into an empty mesh",
                    hint=f"back up what is there, then remove it ({_remove(config)}), in every datacenter, and not the spools",
                )

    _asked(config, "totals", look)


def _remove(config: Config) -> str:
    kind, _, place = config.stores.totals.partition("://")
    if kind.startswith("consul"):
        return f"consul kv delete -recurse {place.partition('?')[0].partition('/')[2]}/"
    return f"its {place.rpartition('/')[2]}*" if kind == "sqlite" else config.stores.totals


def _owner(body: bytes) -> str:
    try:
        return decode_head(body).owner
    except DecodeError:
        return ""


def _asked(config: Config, what: str, ask: Callable[[], T]) -> T:
    """The answer of a store, or CommandError with its reason."""
    try:
        return ask()
    except StoreUnknown as error:
        raise CommandError(f"the {what} of {config.name} can't be had: {error}") from error


class _Restore:
    """Writes one datacenter's totals."""

    def __init__(self, store: TotalsStore, config: Config, contents: _Contents, mark: bytes, owner: str) -> None:
        self._store = store
        self._config = config
        self._contents = contents
        self._mark = mark
        self._indexes: dict[int, int] = {}  # of the partitions that are to be written
        self._heads = {partition: self._head(partition, owner) for partition in range(config.partitions)}
        for partition, head in self._heads.items():
            if len(encode(head)) > store.max_head_bytes:
                raise CommandError(f"the head of partition {partition} is too large for {config.stores.totals}")

    def run(self, backup: BackupFile) -> int:
        """All of it; how many hits of this datacenter have no rows."""
        for partition in self._heads:
            stored = _asked(self._config, "totals", lambda at=partition: self._store.read_head(at))  # type: ignore[misc]
            if stored is None:
                self._indexes[partition] = self._write(Write(partition, 0, self._mark, ()))
            elif stored.body == self._mark:
                self._indexes[partition] = stored.index
        for partition, some in self._rows(backup):
            self._write(Write(partition, self._indexes[partition], None, some))
        for partition, index in self._indexes.items():
            self._write(Write(partition, index, encode(self._heads[partition]), ()))
        return sum(head.lost for head in self._heads.values())

    def _head(self, partition: int, owner: str) -> Head:
        origins = {dc: _anew(origin) for dc, origin in self._contents.origins[partition].items()}
        own = origins.pop(self._config.name, None)
        if own is None:
            return make(Head, secrets.token_hex(8), ERA, owner, 0, 0, {}, (), origins, False, 0)
        at = own.position
        lost = max(0, own.hits - self._contents.sums[partition, self._config.name])
        epoch = (at.epoch // ERA + 1) * ERA
        return make(Head, at.ledger, epoch, owner, at.commit, own.hits, own.lanes, (), origins, False, lost)

    def _rows(self, backup: BackupFile) -> Iterator[tuple[int, list[Row]]]:
        """Rows that one write can carry, of partitions that have none yet."""
        for line in backup.lines():
            if not isinstance(line, Rows) or line.partition not in self._indexes:
                continue
            some: list[Row] = []
            size = 0
            for row in line.rows:
                row_bytes = ROW_BYTES + len(row.page.encode())
                if some and (len(some) == self._store.max_rows or size + row_bytes > self._store.max_write_bytes):
                    yield line.partition, some
                    some, size = [], 0
                some.append(Row(row.page, line.dc, row.count, row.commit))
                size += row_bytes
            if some:
                yield line.partition, some

    def _write(self, write: Write) -> int:
        [outcome] = self._store.write([write])
        if isinstance(outcome, Done):
            return outcome.index
        why = outcome.reason if isinstance(outcome, Unknown) else "somebody else has written there meanwhile"
        raise CommandError(
            f"partition {write.partition} of {self._config.name} isn't restored: {why}",
            hint="nobody counts there until it is; the same command again goes on",
        )


def _anew(origin: Origin) -> Origin:
    """The same in another history."""
    at = origin.position
    return Origin(Position(secrets.token_hex(8), at.epoch, at.commit), origin.hits, origin.lanes, origin.as_of_s)


def _set(store: SettingsStore, wanted: list[Edition], author: str) -> str:
    """Set what was set then, above what is there; what to say of it."""
    store.merge(wanted)  # so that new versions are above those of the backup
    there = store.list()
    changed = [each for each in wanted if each.key not in there or there[each.key].value != each.value]
    for each in changed:
        assert each.value is not None
        store.set(each.key, each.value, author=author)
    others = len(there.keys() - {each.key for each in wanted})
    return f"{len(wanted)} live settings are as they were, {len(changed)} of them set anew" + (
        f"; {others} that the backup doesn't have stay" if others else ""
    )

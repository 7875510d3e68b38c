"""`hitmesh drill`: whether a backup can be restored, by restoring it into a mesh of its own.

Owns that mesh: a temporary folder, free ports on loopback, embedded stores, and every process and file of it
gone afterwards, whatever happens. The mesh that counts isn't touched, and needn't run.
"""

from __future__ import annotations

import contextlib
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

import click
from msgspec import Struct

from hitmesh import config as settings
from hitmesh.cli import folder
from hitmesh.cli.backup_file import BackupFile, Rows, Setting
from hitmesh.cli.layout import BLOCK_PORTS, Layout, Options, lay_out
from hitmesh.cli.restore import bring_back
from hitmesh.cli.stderr import show
from hitmesh.cli.up import check_ports
from hitmesh.config import Config, dump, parse
from hitmesh.config.live import DATACENTERS, RETIRED
from hitmesh.errors import CommandError, StoreUnknown
from hitmesh.visible import visible

Totals = Mapping[str, Mapping[str, int]]
"""page -> datacenter -> count."""

PORTS: Final = range(16_000, 32_000)  # below those that the kernel gives to outgoing connections
TRIES: Final = 50  # of blocks of ports; on a machine with a hundred servers the first one is free
PATIENCE_S: Final = 60.0  # without any further partition in place, before what is there is compared
POLL_S: Final = 0.2
SHOWN: Final = 10  # differences; who has more has seen enough
# One of each is enough to take rows back from the others; a machine that does other work isn't in a hurry.
NODE: Final = {"address": "127.0.0.1", "nexus": 1, "processor": 1, "collector": 1, "balancer": 0}
TIMING: Final = {"missed_heartbeats": 30, "drain_s": 30.0}


class Difference(Struct, frozen=True):
    """A count that isn't what the backup says."""

    where: str  # the datacenter whose store says it
    page: str
    dc: str  # whose count
    expected: int | None  # None: it isn't in the backup
    found: int | None  # None: it isn't there

    @property
    def line(self) -> str:
        """For people."""
        had, got = ("nothing" if each is None else str(each) for each in (self.expected, self.found))
        return f"{self.page} of {self.dc}: {had} in the backup, {got} in {self.where}"


@click.command(short_help="Try a backup: restore it into a mesh of its own, and compare.")
@click.argument("path", metavar="FILE", type=click.Path(path_type=Path))
def drill(path: Path) -> int:
    """Restore the backup in FILE (`-`: standard input) into a mesh of its own, and compare page by page.

    That mesh has the same datacenters, on free ports of loopback and in a temporary folder, one process of
    each role. One datacenter is restored, the others take theirs from it, and then each one's totals of every page
    are compared with the backup, and the live settings. All of it is removed again. Status 1 on any difference.

    \b
    Example:
      hitmesh drill /var/backups/hitmesh-2026-11-30T000501Z.backup
    """
    began = time.monotonic()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # all of it is removed then, too
    with BackupFile(path) as backup, tempfile.TemporaryDirectory(prefix="hitmesh-drill-") as temporary:
        header = backup.header
        expected, live = _expected(backup)
        dcs = [dc for dc in header.datacenters if live.get(DATACENTERS + dc) != RETIRED]
        if not dcs:
            raise CommandError(f"{backup.name}: it has no datacenter that isn't retired")
        state_dir = Path(temporary) / "var"
        layout, base_port, template = _lay_out(dcs, header.partitions, state_dir)
        for config in layout.datacenters:
            at = folder.config_path(state_dir, config.name)
            at.parent.mkdir(parents=True)
            at.write_text(settings.dump(config), encoding="utf-8")
        for line in bring_back(backup, list(layout.datacenters), state_dir):
            show(line)
        words = ("--config", str(template), "--dcs", ",".join(dcs), "--base-port", str(base_port))
        with _running(state_dir, *words):
            _wait_until_there(live, layout.datacenters, state_dir)
            found = {config.name: _totals(config, state_dir) for config in layout.datacenters}
            wrong = [
                f"{key}: {was!r} in the backup, {now!r} in {config.name}"
                for config in layout.datacenters
                for key, was, now in _unlike(live, config, state_dir)
            ]
    lines = [each.line for where, totals in found.items() for each in differences(where, expected, totals)] + wrong
    for line in lines[:SHOWN]:
        print(visible(line))
    compared = f"{len(expected)} pages with {header.hits} hits, and {len(live)} settings, in {', '.join(dcs)}"
    print(visible(f"{backup.name}, of {header.at}: compared {compared}, in {time.monotonic() - began:.0f} s"))
    print(f"{len(lines)} differences" if lines else "all are equal")
    return 1 if lines else 0


def differences(where: str, expected: Totals, found: Totals) -> Iterator[Difference]:
    """Every count that isn't the same."""
    for page in sorted(expected.keys() | found.keys()):
        had, got = expected.get(page, {}), found.get(page, {})
        for dc in sorted(had.keys() | got.keys()):
            if had.get(dc) != got.get(dc):
                yield Difference(where, page, dc, had.get(dc), got.get(dc))


def _expected(backup: BackupFile) -> tuple[Totals, Mapping[str, str]]:
    """What the backup says: counts, and live settings."""
    totals: defaultdict[str, dict[str, int]] = defaultdict(dict)
    live = {}
    for line in backup.lines():
        if isinstance(line, Rows):
            for row in line.rows:
                totals[sys.intern(row.page)][line.dc] = row.count
        elif isinstance(line, Setting):
            live[line.key] = line.value
    return totals, live


def _lay_out(dcs: Sequence[str], partitions: int, state_dir: Path) -> tuple[Layout, int, Path]:
    """The mesh, its first port, and the file that it is made from."""
    config = parse(
        {"name": "drill", "partitions": partitions, "nodes": {"local": NODE}, "timing": TIMING}, source="drill"
    )
    state_dir.mkdir(mode=0o700)
    template = state_dir.with_name("drill.toml")
    template.write_text(dump(config), encoding="utf-8")
    template_config = settings.load(template)
    firsts = [port for port in PORTS[: -BLOCK_PORTS * len(dcs)] if port % BLOCK_PORTS == 0]
    random.SystemRandom().shuffle(firsts)
    for base_port in firsts[:TRIES]:
        options = Options(
            dcs=dcs,
            state_dir=state_dir,
            socket=folder.new_socket_path(state_dir),
            base_port=base_port,
            python=sys.executable,
            consul=None,
            beanstalkd=None,
            open_files=0,
        )
        layout = lay_out(template_config, options, source=str(template))
        with contextlib.suppress(CommandError):
            check_ports(layout.ports)
            return layout, base_port, template
    raise CommandError(f"no {BLOCK_PORTS * len(dcs)} free ports in a row were found for the drill")


@contextlib.contextmanager
def _running(state_dir: Path, *words: str) -> Iterator[None]:
    """The mesh, started by `hitmesh up`, and stopped whatever happens."""
    # -P: the caller's folder may have one named hitmesh, as a clone's parent does.
    hitmesh, where = (sys.executable, "-P", "-m", "hitmesh"), ("--state-dir", str(state_dir))
    try:
        started = subprocess.run([*hitmesh, "up", "-d", *words, *where], capture_output=True, text=True, check=False)
        if started.returncode:
            raise CommandError(f"the mesh of the drill doesn't start: {started.stderr.strip()}")
        yield
    finally:
        subprocess.run([*hitmesh, "down", *where], capture_output=True, check=False)


def _wait_until_there(live: Mapping[str, str], configs: Sequence[Config], state_dir: Path) -> None:
    """Wait until every datacenter has every partition and every setting, or no more come."""
    lacking, since = -1, time.monotonic()
    while time.monotonic() - since < PATIENCE_S:
        now = sum(_lacking(config, state_dir) + len(list(_unlike(live, config, state_dir))) for config in configs)
        if now == 0:
            return
        if now != lacking:
            lacking, since = now, time.monotonic()
        time.sleep(POLL_S)
    show(f"{lacking} partitions or settings don't come back; comparing what is there")


def _lacking(config: Config, state_dir: Path) -> int:
    from hitmesh.store.open import open_store
    from hitmesh.store.totals import decode_head

    with contextlib.closing(open_store(config, state_dir / config.name)) as store:
        try:
            heads = store.read(dict.fromkeys(range(config.partitions), ()))
            return sum(stored is None or decode_head(at, stored).restoring for at, (stored, _) in heads.items())
        except StoreUnknown:
            return config.partitions


def _totals(config: Config, state_dir: Path) -> Totals:
    from hitmesh.store.open import open_store
    from hitmesh.store.totals import read_listing

    with contextlib.closing(open_store(config, state_dir / config.name)) as store:
        return read_listing(store, partitions=config.partitions, has_peers=True).totals


def _unlike(live: Mapping[str, str], config: Config, state_dir: Path) -> Iterator[tuple[str, str | None, str | None]]:
    """The live settings of a datacenter that aren't what the backup says."""
    from hitmesh.settings.open import open_settings

    with contextlib.closing(open_settings(config.stores.settings, state_dir / config.name)) as store:
        there = {key: each.value.decode() for key, each in store.list().items()}
    for key in sorted(live.keys() | there.keys()):
        if live.get(key) != there.get(key):
            yield key, live.get(key), there.get(key)

"""`hitmesh check-config`: says what is wrong with a configuration, or what it says."""

from __future__ import annotations

from pathlib import Path

import click

from hitmesh import config as settings
from hitmesh.config import ROLES


@click.command(short_help="Check a datacenter's configuration file.")
@click.argument("files", metavar="FILE...", nargs=-1, required=True, type=click.Path(path_type=Path))
def check_config(files: tuple[Path, ...]) -> None:
    r"""Check configuration files; the first mistake ends it with status 1.

    \b
    Example:
      hitmesh check-config config/eu-west.toml
    """
    for path in files:
        config = settings.load(path)
        counts = ", ".join(f"{len(config.instances(role))} {role}" for role in ROLES)
        stores = f"totals in {config.stores.totals}, spools in {', '.join(config.stores.spools)}"
        print(f"{path}: ok: {config.name}: {counts}; {config.partitions} partitions; {stores}")

"""`hitmesh check-config`: says what is wrong with a configuration, or what it says."""

from __future__ import annotations

from pathlib import Path

import click

from hitmesh import config as settings
from hitmesh.cli.options import CONFIG_NAME
from hitmesh.cli.stderr import warn
from hitmesh.config import ROLES, Config, is_loopback, why_not_run
from hitmesh.errors import ConfigError


@click.command(short_help="Check a datacenter's configuration file.")
@click.argument("files", metavar="FILE...", nargs=-1, required=True, type=click.Path(path_type=Path))
def check_config(files: tuple[Path, ...]) -> None:
    """Check configuration files; the first mistake ends it with status 1.

    Several files are of one mesh. No store is asked, and nothing has to run.

    \b
    Example:
      hitmesh check-config config/eu-west.toml
    """
    configs = []
    for path in files:
        config = load(path)
        configs.append(config)
        settings.check_partitions(configs)
        counts = ", ".join(f"{len(config.instances(role))} {role}" for role in ROLES if config.instances(role))
        spools = ", ".join(config.stores.spools)
        stores = f"totals in {config.stores.totals}, settings in {config.stores.settings}, spools in {spools}"
        print(f"{path}: ok: {config.name}: {counts}; {config.partitions} partitions; {stores}")
        if path.name not in (f"{config.name}.toml", CONFIG_NAME):
            warn(f"{path}: fab looks for {config.name} in {config.name}.toml")


def load(path: Path) -> Config:
    """A configuration with its stores' URLs checked as well, by those who read them, and its hook. Raises ConfigError."""
    from hitmesh.settings.open import open_settings
    from hitmesh.spool.open import open_spool
    from hitmesh.store.open import open_store

    config = settings.load(path)
    if problem := _hook_problem(config):
        raise ConfigError(f"{path}: {problem}")
    try:
        # None touches a file or a server before it is asked something.
        open_store(config, path.parent).close()
        open_settings(config.stores.settings, path.parent).close()
        open_spool(config, path.parent).close()
    except ConfigError as error:
        raise ConfigError(f"{path}: {error.message}", hint=error.hint) from error
    return config


def _hook_problem(config: Config) -> str:
    """Why the scaler's hook can't be run; that of hosts is on them, where their scalers look."""
    hook = config.scaler.hook
    if not hook or not all(is_loopback(node.address) for node in config.nodes.values()):
        return ""
    why = why_not_run(hook)
    return f"scaler.hook: {hook} {why}" if why else ""

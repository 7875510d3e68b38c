"""The commands that run one role in the foreground: what supervisord starts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import click

from hitmesh import config as settings
from hitmesh.cli.options import state_dir_option
from hitmesh.logs import log_to_stderr

F = TypeVar("F", bound=Callable[..., object])

config_option = click.option(
    "--config",
    "config_path",
    type=click.Path(path_type=Path),
    required=True,
    metavar="FILE",
    help="The datacenter's configuration.",
)


@click.command(short_help="Run one collector in the foreground.")
@config_option
@click.option("--name", default="collector-1", show_default=True, help="The instance's name, unique in its datacenter.")
@state_dir_option
@click.option("--listen", metavar="HOST:PORT", help="Instead of the configured address; port 0: any free one.")
def collector(config_path: Path, name: str, state_dir: Path, listen: str | None) -> int:
    """Take hits over HTTP, keep them in the spool, push them to the processors.

    An instance that isn't in the configuration, such as collector-3 where two are configured,
    listens on any free port: `hitmesh endpoints` shows it.

    \b
    Example:
      hitmesh collector --config var/eu-west/hitmesh.toml --name collector-3
    """
    log_to_stderr()
    config = settings.load(config_path)
    from hitmesh.collector.main import run

    return run(config, name=name, state_dir=state_dir, listen=listen)


@click.command(short_help="Run one processor in the foreground.")
@config_option
@click.option("--name", default="processor-1", show_default=True, help="The instance's name, unique in its datacenter.")
@state_dir_option
def processor(config_path: Path, name: str, state_dir: Path) -> int:
    """Own page partitions: commit what collectors push, and answer with acks.

    \b
    Example:
      hitmesh processor --config var/eu-west/hitmesh.toml --name processor-3
    """
    log_to_stderr()
    config = settings.load(config_path)
    from hitmesh.processor.main import run

    return run(config, name=name, state_dir=state_dir)

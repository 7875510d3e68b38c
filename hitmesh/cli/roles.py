"""The commands that run one role in the foreground: what supervisord starts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final, TypeVar

import click

from hitmesh import config as settings
from hitmesh.cli.options import state_dir_option
from hitmesh.lines import Speaker
from hitmesh.logs import log_to_stderr
from hitmesh.protocol.names import is_name

MAX_NAME_CHARS: Final = 64  # an instance's id is its name and some more
F = TypeVar("F", bound=Callable[..., object])

config_option = click.option(
    "--config",
    "config_path",
    type=click.Path(path_type=Path),
    required=True,
    metavar="FILE",
    help="The datacenter's configuration.",
)


def _checked(context: click.Context, option: click.Parameter, name: str) -> str:
    """A name that every other process will take. Raises BadParameter."""
    if not is_name(name) or len(name) > MAX_NAME_CHARS:
        raise click.BadParameter(f"a name is 1 to {MAX_NAME_CHARS} letters and digits of ASCII, and . _ -")
    return name


def _name_option(default: str) -> Callable[[F], F]:
    return click.option(
        "--name",
        default=default,
        show_default=True,
        callback=_checked,
        help="The instance's name, unique in its datacenter.",
    )


@click.command(short_help="Run one collector in the foreground.")
@config_option
@_name_option("collector-1")
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
    config = _begin(config_path, "collector", name)
    from hitmesh.collector.main import run

    return run(config, name=name, state_dir=state_dir, listen=listen)


@click.command(short_help="Run one processor in the foreground.")
@config_option
@_name_option("processor-1")
@state_dir_option
def processor(config_path: Path, name: str, state_dir: Path) -> int:
    """Own page partitions: commit what collectors push, and answer with acks.

    \b
    Example:
      hitmesh processor --config var/eu-west/hitmesh.toml --name processor-3
    """
    config = _begin(config_path, "processor", name)
    from hitmesh.processor.main import run

    return run(config, name=name, state_dir=state_dir)


@click.command(short_help="Run one dashboard in the foreground.")
@config_option
@_name_option("dashboard-1")
@state_dir_option
@click.option("--listen", metavar="HOST:PORT", help="Instead of the configured address; port 0: any free one.")
def dashboard(config_path: Path, name: str, state_dir: Path, listen: str | None) -> int:
    """Show what every datacenter looks like, to people and programs that may only look.

    It watches its own datacenter, and hears from the others' dashboards of theirs. An instance that isn't in the
    configuration listens on any free port: `hitmesh endpoints` shows it.

    \b
    Example:
      hitmesh dashboard --config var/eu-west/hitmesh.toml
    """
    config = _begin(config_path, "dashboard", name)
    from hitmesh.dashboard.main import run

    return run(config, name=name, state_dir=state_dir, listen=listen)


@click.command(short_help="Run one recorder in the foreground.")
@config_option
@_name_option("recorder-1")
@state_dir_option
def recorder(config_path: Path, name: str, state_dir: Path) -> int:
    """Keep what the roles of a datacenter log and count, for `hitmesh logs` and for PostgreSQL.

    Nobody needs it: with none alive each role keeps its last records for a while, and goes on.

    \b
    Example:
      hitmesh recorder --config var/eu-west/hitmesh.toml --name recorder-2
    """
    config = _begin(config_path, "recorder", name)
    from hitmesh.recorder.main import run

    return run(config, name=name, state_dir=state_dir)


@click.command(short_help="Run one scaler in the foreground.")
@config_option
@_name_option("scaler-1")
@state_dir_option
@click.option("--dry-run", is_flag=True, help="Decide and say so, and change nothing.")
def scaler(config_path: Path, name: str, state_dir: Path, dry_run: bool) -> int:
    """Start and stop collectors and processors as the load wants it, within scaler.<role>.min and .max.

    One of a datacenter's decides; each starts and stops those of its own node, through the supervisord there. How many
    workers each balancer has is decided, too; balancers follow by themselves.

    \b
    Example:
      hitmesh scaler --config var/eu-west/hitmesh.toml --name scaler-9 --dry-run
    """
    config = _begin(config_path, "scaler", name)
    from hitmesh.scaler.main import run

    return run(config, name=name, state_dir=state_dir, dry_run=dry_run)


def _begin(config_path: Path, role: str, name: str) -> settings.Config:
    """What each role does first: its configuration, its log, its key."""
    config = settings.load(config_path)
    log_to_stderr(Speaker(config.name, role, name), form=config.log.format, level=config.log.level)
    if config.keys:
        from hitmesh.cli.keyfolder import make_own  # a mesh without keys needs none of it

        make_own(config, role, name)
    return config

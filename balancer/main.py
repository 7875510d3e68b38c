"""The `balancer` command: its options, and which process of an instance this one is.

Knows nothing of what a master or a worker does. Exit status: 0 done, 1 failed, 2 used wrongly;
an error is one line on stderr.
"""

from __future__ import annotations

import resource
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import click
from click.core import ParameterSource
from msgspec import Struct

from balancer.front import Front, configured, standalone
from balancer.process import handover
from balancer.process.generation import Plan
from balancer.process.listeners import ListenError
from balancer.process.processes import read_text
from hitmesh import output
from hitmesh.cli.options import STATE_DIR_HELP, state_folder
from hitmesh.errors import ConfigError, HitmeshError
from hitmesh.lines import NOBODY, Speaker
from hitmesh.logs import log_to_stderr
from hitmesh.version import version_option
from hitmesh.visible import visible

FAILED: Final = 1
MISUSED: Final = 2
MOST_FILES: Final = 1_048_576  # the kernel's own default for the most that one may ask for

_EXAMPLES = """\b
Examples:
  balancer --config var/eu-west/hitmesh.toml --name balancer-2
  balancer --listen 0.0.0.0:8000 --backend 10.0.0.5:8010 --backend 10.0.0.6:8010
  balancer --listen [::]:8000 --backend localhost:8010 --workers 2 --admin 127.0.0.1:8005

\b
Signals: TERM drains and ends, HUP reads the configuration anew, USR2 lets an installed new version
take over; none of them refuses a connection.
"""


class FromFile(Struct, frozen=True):
    """An instance of a datacenter: the Source of its master."""

    file: Path
    name: str | None
    state_dir: Path

    def read(self) -> bytes:
        try:
            return self.file.read_bytes()
        except OSError as error:
            raise ConfigError(f"{self.file}: can't be read: {error.strerror}") from error

    def front(self, text: bytes | None) -> Front:
        assert text is not None
        return configured(text, file=self.file, name=self.name, state_dir=self.state_dir)

    def plan(self, text: bytes | None) -> Plan:
        return self.front(text).plan(text)


class FromLine(Struct, frozen=True):
    """A standalone instance: everything is on the command line, and never changes."""

    listen: str
    backends: tuple[str, ...]
    admin: str | None
    workers: int
    access_log: str

    def read(self) -> None:
        return None

    def front(self, text: bytes | None) -> Front:
        del text
        return standalone(
            listen=self.listen,
            backends=self.backends,
            admin=self.admin,
            workers=self.workers,
            access_log=self.access_log,
        )

    def plan(self, text: bytes | None) -> Plan:
        return self.front(text).plan(text)


_ONLY_FILE = ("name", "state_dir")
_ONLY_LINE = ("backends", "admin", "workers", "access_log")


@click.command(epilog=_EXAMPLES, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--config", "file", metavar="FILE", type=click.Path(path_type=Path), help="The datacenter's TOML file.")
@click.option("--name", metavar="NAME", help="Which of its balancers this is; the first one by default.")
@click.option(
    "--state-dir",
    metavar="DIR",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("var"),
    show_default=True,
    callback=state_folder,
    help=STATE_DIR_HELP,
)
@click.option("--listen", metavar="HOST:PORT", help="Listen here, without configuration and Nexus; port 0: any.")
@click.option("--backend", "backends", multiple=True, metavar="HOST:PORT", help="Pass requests on; several share them.")
@click.option("--workers", type=int, default=1, show_default=True, metavar="N", help="Processes that share the port.")
@click.option("--admin", metavar="HOST:PORT", help="Show /stats and /metrics here, on loopback.")
@click.option("--access-log", default="", metavar="FILE", help='Write a line per request; "-": standard output.')
@click.option("--check", is_flag=True, help="Load everything, check the configuration, and end.")
@click.option("--worker", type=int, hidden=True)
@click.option("--fds", default="", hidden=True)
@click.option("--ready-fd", type=int, hidden=True)
@click.option("--alive-fd", type=int, hidden=True)
@click.option("--config-fd", type=int, hidden=True)
@click.option("--beats-fd", type=int, hidden=True)
@version_option("balancer")
@click.pass_context
def command(
    context: click.Context,
    *,
    file: Path | None,
    name: str | None,
    state_dir: Path,
    listen: str | None,
    backends: tuple[str, ...],
    workers: int,
    admin: str | None,
    access_log: str,
    check: bool,
    worker: int | None,
    fds: str,
    ready_fd: int | None,
    alive_fd: int | None,
    config_fd: int | None,
    beats_fd: int | None,
) -> int:
    """Balance HTTP over the collectors of a datacenter, or over the backends given here.

    Runs in the foreground, one process that starts the workers, until SIGTERM or SIGINT.
    """
    if file is None and listen is None:
        raise click.UsageError("either --config or --listen is needed")
    if file is not None and listen is not None:
        raise click.UsageError("--config and --listen don't go together")
    for option in _ONLY_LINE if file is not None else _ONLY_FILE:
        if context.get_parameter_source(option) is not ParameterSource.DEFAULT:
            raise click.UsageError(f"--{_written(option)} goes with {'--listen' if file is not None else '--config'}")
    source: FromFile | FromLine
    if file is not None:
        source = FromFile(file, name, state_dir)
    else:
        assert listen is not None
        source = FromLine(listen, backends, admin, workers, access_log)
    text = None if config_fd is None else read_text(config_fd)
    if worker is not None:
        if ready_fd is None or alive_fd is None:
            raise click.UsageError("--worker is for the master to say")
        front = source.front(text)
        _log_as(front, f"{front.name}/{worker}")
        from balancer.process.running import serve

        return serve(front, index=worker, fds=fds, ready_fd=ready_fd, alive_fd=alive_fd, beats_fd=beats_fd)
    if check:
        return _check(source, text)
    return _master(source)


def run(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; the exit status. A failure that was foreseen is told in one line."""
    try:
        status = command.main(args=arguments, prog_name="balancer", standalone_mode=False)
    except click.UsageError as error:
        return _told(f"{error.format_message()} (see balancer --help)", MISUSED)
    except ConfigError as error:
        return _told(str(error), MISUSED)
    except (HitmeshError, ListenError) as error:
        return _told(str(error), FAILED)
    except OSError as error:
        if not output.is_unwritten(error):
            raise
        said = output.give_up(error)
        return _told(said, FAILED) if said else FAILED
    return status if isinstance(status, int) else 0


def _master(source: FromFile | FromLine) -> int:
    from balancer.process.master import Master

    left = handover.take()
    # What was checked is what is taken, whatever the file says by now.
    text = source.read() if left is None else left.take_text()
    front = source.front(text)
    if front.config is not None and front.config.keys:
        from hitmesh.cli.keyfolder import make_own  # a balancer without a mesh has no ZeroMQ

        make_own(front.config, "balancer", front.name)
    _log_as(front, front.name)
    # A worker needs two for each request under way, and a usual soft limit is 1,024.
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = MOST_FILES if hard == resource.RLIM_INFINITY else min(hard, MOST_FILES)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    # As this process was started, be it by `balancer` or `python -m balancer`.
    return Master(source, command=[sys.executable, *sys.orig_argv[1:]]).run(front.plan(text), left)


def _check(source: FromFile | FromLine, text: bytes | None) -> int:
    import balancer.admin.server
    import balancer.process.running
    import balancer.worker  # noqa: F401

    handover.check()
    source.front(source.read() if text is None else text)
    click.echo("balancer: can be started")
    return 0


def _log_as(front: Front, name: str) -> None:
    config, log = front.config, front.log
    speaker = Speaker(config.name if config is not None else NOBODY, "balancer", name)
    log_to_stderr(speaker, form=log.format, level=log.level)


def _told(message: str, status: int) -> int:
    click.echo(f"balancer: {visible(' '.join(message.split()))}", err=True)
    return status


def _written(parameter: str) -> str:
    return {"backends": "backend"}.get(parameter, parameter).replace("_", "-")

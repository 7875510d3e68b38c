"""The Nexus as a process: its command line, its signals, its end.

Imported by `nexus.__main__` after gevent has patched the process.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
from pathlib import Path
from typing import Final

import click
import gevent
import zmq.green
from gevent.event import Event

from hitmesh import output
from hitmesh.cli.options import state_folder
from hitmesh.config import Config, load
from hitmesh.errors import ConfigError, MeshError
from hitmesh.lines import Speaker
from hitmesh.logs import log_to_stderr
from hitmesh.mesh.network import open_network
from hitmesh.mesh.room import Room
from hitmesh.metrics.opening import open_admin
from hitmesh.settings.live import Live
from hitmesh.settings.open import open_settings
from hitmesh.startup import prepare
from hitmesh.version import version_option
from hitmesh.visible import visible
from nexus.server import Server

EXIT_FAILED: Final = 1
EXIT_WRONG_USE: Final = 2

_EXAMPLE = """\b
Example:
  nexus --config config/dev.toml --name nexus-2
"""


@click.command(epilog=_EXAMPLE, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--config",
    "file",
    required=True,
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="The datacenter's TOML file.",
)
@version_option("nexus")
@click.option("--name", metavar="NAME", help="Which of the configured Nexuses this is; the first one by default.")
@click.option(
    "--state-dir",
    metavar="DIR",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("var"),
    show_default=True,
    callback=state_folder,
    help="Where the live settings' file is, when their store is SQLite; a Nexus keeps nothing else on disk.",
)
def command(file: Path, name: str | None, state_dir: Path) -> None:
    """Run one Nexus in the foreground, until SIGTERM or SIGINT.

    A Nexus tells the roles of a datacenter about each other. Run two: either is enough.
    """
    try:
        config = load(file)
    except ConfigError as error:
        _told(error)
        sys.exit(EXIT_WRONG_USE)
    sys.exit(run(config, name=name or config.instances("nexus")[0].name, state_dir=state_dir))


def run(config: Config, *, name: str, state_dir: Path) -> int:
    """Serve until SIGTERM or SIGINT; the exit status. Needs a process that gevent may have to itself."""
    log_to_stderr(Speaker(config.name, "nexus", name), form=config.log.format, level=config.log.level)
    known = [placement.name for placement in config.instances("nexus")]
    if name not in known:
        _told(f"{name} is not configured; known are {', '.join(known)}")
        return EXIT_WRONG_USE
    stop = Event()
    watchers = [gevent.signal_handler(number, stop.set) for number in (signal.SIGTERM, signal.SIGINT)]
    try:
        network = open_network(zmq.green.Context(), config, "nexus", name)
        # Two of them: the server closes the one that it exchanges with other datacenters.
        settings, followed = (open_settings(config.stores.settings, state_dir / config.name, "nexus") for _ in range(2))
        live = Live(config, followed)
        server = Server(
            config,
            name=name,
            id=f"{name}-{os.urandom(8).hex()}",
            network=network,
            settings=settings,
            retired=lambda: live.retired,
            written=lambda: live.written,
            admin=open_admin(config, "nexus", name),
            room=Room(state_dir).load,
        )
        server.start()
    except ConfigError as error:
        _told(error)
        return EXIT_WRONG_USE
    except MeshError as error:
        _told(f"{name}: {error}")
        return EXIT_FAILED
    live.start()
    logging.getLogger("hitmesh.nexus").info("serves %s", config.name)
    stop.wait()
    live.stop()
    server.stop()
    followed.close()
    for watcher in watchers:
        watcher.cancel()
    network.close()
    return 0


def _told(message: object) -> None:
    click.echo(f"nexus: {visible(str(message))}", err=True)


def main() -> None:
    """The console command."""
    prepare()
    try:
        command(prog_name="nexus")
    except OSError as error:
        if not output.is_unwritten(error):
            raise
        _told(output.give_up(error))
        sys.exit(EXIT_FAILED)

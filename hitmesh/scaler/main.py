"""The scaler as a process: builds it, runs it in the foreground, ends it on SIGTERM."""

from __future__ import annotations

import logging
import os
import signal
from pathlib import Path
from typing import Final

import gevent
import zmq.green
from gevent.event import Event

from hitmesh.config import Config
from hitmesh.mesh.network import open_network
from hitmesh.mesh.room import Room
from hitmesh.metrics.opening import open_admin
from hitmesh.scaler.scaler import Scaler
from hitmesh.settings.open import open_settings
from hitmesh.supervisord import Supervisord

SERVER_URL: Final = "SUPERVISOR_SERVER_URL"
"""Variable that supervisord gives its programs: where it listens, as unix://PATH."""

log = logging.getLogger(__name__)


def run(config: Config, *, name: str, state_dir: Path, dry_run: bool = False) -> int:
    """Run one scaler until SIGTERM or SIGINT; the exit status. Raises ConfigError, MeshError."""
    stop = Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        gevent.signal_handler(number, stop.set)
    base = state_dir / config.name
    scaler = Scaler(
        config,
        name=name,
        settings=open_settings(config.stores.settings, base, "scaler"),
        supervisord=Supervisord(_socket),
        network=open_network(zmq.green.Context(), config, "scaler", name),
        admin=open_admin(config, "scaler", name),
        room=Room(base).load,
        dry_run=dry_run,
    )
    scaler.start()
    log.info("%s of %s is up%s", name, config.name, ", and changes nothing: --dry-run" if dry_run else "")
    stop.wait()
    scaler.stop()
    return 0


def _socket() -> Path | None:
    """Where the supervisord listens that has started this process; None: none has, or it listens elsewhere."""
    scheme, separator, path = os.environ.get(SERVER_URL, "").partition("://")
    return Path(path) if separator and scheme == "unix" and path else None

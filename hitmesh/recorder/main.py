"""The recorder as a process: builds it, runs it in the foreground, ends it on SIGTERM."""

from __future__ import annotations

import logging
import signal
from pathlib import Path

import gevent
import zmq.green
from gevent.event import Event

from hitmesh.config import Config
from hitmesh.mesh.network import open_network
from hitmesh.metrics.opening import open_admin
from hitmesh.recorder.recorder import Recorder
from hitmesh.settings.open import open_settings

log = logging.getLogger(__name__)


def run(config: Config, *, name: str, state_dir: Path) -> int:
    """Run one recorder until SIGTERM or SIGINT; the exit status. Raises ConfigError, MeshError."""
    stop = Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        gevent.signal_handler(number, stop.set)
    base = state_dir / config.name
    recorder = Recorder(
        config,
        name=name,
        base=base,
        settings=open_settings(config.stores.settings, base, "recorder"),
        network=open_network(zmq.green.Context(), config, "recorder", name),
        admin=open_admin(config, "recorder", name),
    )
    recorder.start()
    log.info("%s of %s is up", name, config.name)
    stop.wait()
    recorder.stop()
    return 0

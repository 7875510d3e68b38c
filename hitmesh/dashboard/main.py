"""The dashboard as a process: builds it, runs it in the foreground, ends it on SIGTERM."""

from __future__ import annotations

import logging
import signal
from pathlib import Path

import gevent
import zmq.green
from gevent.event import Event

from hitmesh.config import Config, host_port
from hitmesh.dashboard.dashboard import Dashboard
from hitmesh.errors import ConfigError
from hitmesh.mesh.network import open_network
from hitmesh.settings.open import open_settings

log = logging.getLogger(__name__)


def run(config: Config, *, name: str, state_dir: Path, listen: str | None = None) -> int:
    """Run one dashboard until SIGTERM or SIGINT; the exit status. Raises ConfigError, MeshError.

    `listen` is HOST:PORT; without it the configured place, or any free port for a name that isn't configured.
    """
    stop = Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        gevent.signal_handler(number, stop.set)
    placement = config.placement("dashboard", name)
    place = (placement.address, placement.port or 0)
    base = state_dir / config.name
    try:
        dashboard = Dashboard(
            config,
            name=name,
            state_dir=base,
            listen=place if listen is None else host_port(listen, lowest_port=0),
            settings=open_settings(config.stores.settings, base, "dashboard"),
            network=open_network(zmq.green.Context(), config, "dashboard", name),
        )
    except OSError as error:
        raise ConfigError(f"{listen or place}: can't be listened at: {error.strerror}") from error
    dashboard.start()
    log.info("up at %s", dashboard.url, extra={"fields": {"url": dashboard.url}})
    stop.wait()
    dashboard.stop()
    return 0

"""The processor as a process: builds it, runs it in the foreground, drains it on SIGTERM."""

from __future__ import annotations

import logging
import signal
from pathlib import Path

import gevent
import zmq.green
from gevent.event import Event

from hitmesh.config import Config
from hitmesh.errors import ConfigError
from hitmesh.mesh.network import open_network
from hitmesh.mesh.room import Room
from hitmesh.metrics.opening import open_admin
from hitmesh.processor.processor import Processor
from hitmesh.settings.open import open_settings
from hitmesh.store.open import open_store

log = logging.getLogger(__name__)


def run(config: Config, *, name: str, state_dir: Path) -> int:
    """Run one processor until SIGTERM or SIGINT; the exit status. Raises ConfigError, MeshError."""
    _check_place(config, name)
    stop = Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        gevent.signal_handler(number, stop.set)
    base = state_dir / config.name
    processor = Processor(
        config,
        name=name,
        store=open_store(config, base, "processor"),
        settings=open_settings(config.stores.settings, base, "processor"),
        network=open_network(zmq.green.Context(), config, "processor", name),
        admin=open_admin(config, "processor", name),
        room=Room(base).load,
    )
    processor.start()
    log.info("up", extra={"fields": {"partitions": config.partitions}})
    stop.wait()
    log.info("draining")
    processor.stop()
    return 0


def _check_place(config: Config, name: str) -> None:
    """Whether a firewall or a router lets other datacenters through to one that isn't configured."""
    place = config.placement("processor", name)
    if place.port is not None or not config.ports.rows:
        return
    if config.nodes[place.node].wan_ports.rows:
        raise ConfigError(
            f"{name} isn't configured, and has none of the ports that nodes.{place.node}.wan_ports.rows forwards",
            hint=f"raise nodes.{place.node}.processor",
        )
    log.warning("%s isn't configured: other datacenters have to reach it at any port, not only at ports.rows", name)

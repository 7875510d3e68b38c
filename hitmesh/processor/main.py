"""The processor as a process: builds it, runs it in the foreground, drains it on SIGTERM."""

from __future__ import annotations

import logging
import signal
from pathlib import Path

import gevent
import zmq.green
from gevent.event import Event

from hitmesh.config import Config
from hitmesh.processor.processor import Processor
from hitmesh.settings.open import open_settings
from hitmesh.store.open import open_store

log = logging.getLogger(__name__)


def run(config: Config, *, name: str, state_dir: Path) -> int:
    """Run one processor until SIGTERM or SIGINT; the exit status."""
    stop = Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        gevent.signal_handler(number, stop.set)
    base = state_dir / config.name
    processor = Processor(
        config,
        name=name,
        store=open_store(config, base, "processor"),
        settings=open_settings(config.stores.settings, base, "processor"),
        context=zmq.green.Context(),
    )
    processor.start()
    log.info("%s of %s is up", name, config.name)
    stop.wait()
    log.info("draining")
    processor.stop()
    return 0

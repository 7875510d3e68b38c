"""Datacenters that a bench fills with pages: started with Consul by `hitmesh up`, asked through their
Nexuses, and weighed by what /proc says of their processes.
"""

from __future__ import annotations

import http.client
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.request import Request, urlopen

from hitmesh.cli import folder
from hitmesh.config import Config
from hitmesh.mesh.lookup import Lookups
from hitmesh.protocol.messages import Seen
from hitmesh.store.open import open_store
from hitmesh.store.totals import decode_head, overlay

BIN = Path(sys.executable).parent
SEND_TIMEOUT_S = 120.0  # of a batch of hits: a collector answers when it is in the spool
LIST_TIMEOUT_S = 300.0  # of a list of all totals


@dataclass(frozen=True)
class Progress:
    """How far a datacenter's processors are, as their heartbeats say: a second old at most."""

    hits: int  # committed
    commits: int
    received: int  # rows of other datacenters, committed here


class Datacenter:
    """One of them, from outside."""

    def __init__(self, config: Config, state_dir: Path) -> None:
        self.name = config.name
        self._state_dir = state_dir
        self._lookups = Lookups.of(config, timeout_s=5.0)
        self._collector = f"{config.instances('collector')[0].address}:{config.ports.collector}"
        self._config = config
        self._consul_pid = self._supervised("consul-1")

    def _supervised(self, name: str) -> int:
        command = [
            str(BIN / "supervisorctl"),
            "-c",
            str(folder.conf_path(self._state_dir)),
            "pid",
            f"{self.name}-{name}",
        ]
        return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)

    def close(self) -> None:
        """Give up the sockets."""
        self._lookups.close()

    # --- hits and totals ---------------------------------------------------------------------

    def send(self, pages: Iterable[str]) -> None:
        """One hit on each, as one batch; returns once it is in the spool."""
        body = "".join(f'{{"page":"{page}"}}\n' for page in pages).encode()
        request = Request(f"http://{self._collector}/hits", body, {"Content-Type": "application/x-ndjson"})
        with urlopen(request, timeout=SEND_TIMEOUT_S) as answer:
            answer.read()

    def connect(self) -> http.client.HTTPConnection:
        """To the collector."""
        return http.client.HTTPConnection(self._collector, timeout=LIST_TIMEOUT_S)

    def counts(self) -> Iterable[tuple[int, dict[tuple[str, str], int]]]:
        """Every partition's rows, by page and datacenter, straight from its store."""
        store = open_store(self._config, self._state_dir)
        try:
            for partition, stored, rows in store.scan():
                yield partition, overlay(rows, decode_head(partition, stored) if stored else None)
        finally:
            store.close()

    # --- processes ---------------------------------------------------------------------------

    def seen(self, role: str) -> list[Seen]:
        """Its instances of a role, the dead of the last minutes included."""
        everybody = self._lookups.snapshot().seen
        return [seen for seen in everybody if seen.instance.dc == self.name and seen.instance.role == role]

    def progress(self) -> Progress:
        """How far its processors are, added up over those that live."""
        loads = [seen.instance.load for seen in self.seen("processor") if seen.alive]
        figures = (sum(int(load.get(key, 0)) for load in loads) for key in ("hits", "commits", "rows_received"))
        return Progress(*figures)

    def consul_bytes(self) -> tuple[int, int]:
        """Memory of its Consul server: now, and the most it ever had."""
        return _memory([self._consul_pid], "VmRSS"), _memory([self._consul_pid], "VmHWM")

    def processor_bytes(self) -> int:
        """Memory of all its processors."""
        return _memory([seen.instance.pid for seen in self.seen("processor") if seen.alive], "VmRSS")

    def collector_peak_bytes(self) -> int:
        """The most memory that its collector ever had."""
        return _memory([seen.instance.pid for seen in self.seen("collector") if seen.alive], "VmHWM")


def _memory(pids: Sequence[int], key: str) -> int:
    total = 0
    for pid in pids:
        found = re.search(rf"^{key}:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
        assert found, f"/proc/{pid}/status has no {key}"
        total += int(found[1]) * 1024
    return total


def kill(seen: Seen) -> None:
    """End an instance without a word."""
    os.kill(seen.instance.pid, signal.SIGKILL)

"""`python -m tests.balancer.process.master_process FILE`: a real master, whose configuration is JSON.

    {"label": "a", "listen": {"http": "127.0.0.1:0"}, "workers": 2, "drain_s": 1.0, "mode": "", "vip": "127.0.0.7", ...}

Its workers are `stub_worker`. What `patience` says counts from then on, for what begins later. Of the new version that SIGUSR2 asks for, `check` is the status of its
check (-1: none comes), and `waits_for` a file that it waits for before it does anything.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import time
from pathlib import Path
from typing import Any

import msgspec

from balancer.process import handover
from balancer.process.generation import Patience, Plan
from balancer.process.listeners import Address, ListenError
from balancer.process.master import Master
from balancer.process.processes import read_text
from balancer.vip.place import VirtualIp
from hitmesh.errors import ConfigError

STUB = Path(__file__).with_name("stub_worker.py")


class JsonFile:
    """The Source of the master."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.master: Master | None = None

    def read(self) -> bytes:
        return self._path.read_bytes()

    def plan(self, text: bytes | None) -> Plan:
        assert text is not None
        config = decoded(text)
        if self.master is not None:
            self.master._patience = patience(config)
        listen: Any = {
            kind: Address(place.rpartition(":")[0], int(place.rpartition(":")[2]))
            for kind, place in config["listen"].items()
        }
        vip = VirtualIp(config["vip"], self._path.with_name("said")) if "vip" in config else None
        return Plan(listen=listen, workers=config["workers"], drain_s=config["drain_s"], text=text, vip=vip)


def decoded(text: bytes) -> dict[str, Any]:
    try:
        config: dict[str, Any] = json.loads(text)
    except ValueError as error:
        raise ConfigError(f"not JSON: {error}") from error
    return config


def patience(config: dict[str, Any]) -> Patience:
    return msgspec.convert(config.get("patience", {}), Patience)


def check(status: int) -> int:
    if status < 0:
        time.sleep(600)
    return status


def main() -> int:
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(asctime)s master %(levelname)s %(message)s")
    if "--check" in sys.argv:
        assert handover.VARIABLE in os.environ  # or there is nothing to check
        handover.check()
        return check(decoded(read_text(int(sys.argv[sys.argv.index("--config-fd") + 1]))).get("check", 0))
    source = JsonFile(Path(sys.argv[1]))
    left = handover.take()
    text = source.read() if left is None else left.take_text()
    assert text is not None
    waits_for = decoded(text).get("waits_for")
    if left is not None and waits_for:
        print("the new version waits", file=sys.stderr, flush=True)
        while not Path(waits_for).exists():
            time.sleep(0.01)
    source.master = master = Master(
        source,
        command=[sys.executable, *sys.orig_argv[1:]],
        worker_command=[sys.executable, "-I", "-S", str(STUB)],
        patience=patience(decoded(text)),
    )
    try:
        return master.run(source.plan(text), left)
    except ListenError as error:
        print(error, file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())

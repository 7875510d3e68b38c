"""Free ports on loopback, and waiting for a server on one of them."""

from __future__ import annotations

import socket
import time
import urllib.error
import urllib.request
from collections.abc import Callable

WAIT_S = 20.0  # a program that hasn't answered by then won't
BLOCK = 100  # ports that one datacenter takes


def free_port() -> int:
    """A TCP port that the kernel calls free."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def free_block(blocks: int = 1) -> int:
    """The start of a hundred ports, or several hundred, all free now, below those that the kernel gives to clients."""
    for base in range(24_000, 32_000, BLOCK):
        try:
            for port in range(base, base + blocks * BLOCK):
                with socket.socket() as probe:
                    probe.bind(("127.0.0.1", port))
        except OSError:
            continue
        return base
    raise SystemExit(f"no {blocks * BLOCK} free ports in a row below 32,000")


def wait_for_answer(url: str, is_alive: Callable[[], bool] = lambda: True) -> None:
    """Return once `url` answers, whatever its status; SystemExit when its server has died or takes too long."""
    deadline = time.monotonic() + WAIT_S
    while True:
        try:
            urllib.request.urlopen(url, timeout=WAIT_S).close()
        except urllib.error.HTTPError:
            return
        except OSError as error:
            if time.monotonic() > deadline or not is_alive():
                raise SystemExit(f"{url} doesn't answer: {error}") from error
            time.sleep(0.05)
        else:
            return

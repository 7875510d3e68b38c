"""The proxies that stand between the clients and the strict backend, as real processes."""

from __future__ import annotations

import contextlib
import re
import socket
import subprocess
import sys
from pathlib import Path
from typing import Final

from tests.services import Server, free_port, require
from tests.services.nexus import free_ports

# The defaults, but for time-outs that a test can wait for. Nothing of its `http-request deny`:
# what it forwards by itself is what is compared.
HAPROXY_CONFIG: Final = """\
global
    maxconn 4000
    nbthread 1
defaults
    mode http
    timeout connect 3s
    timeout client 5s
    timeout server 5s
    timeout http-request 5s
frontend wire
    bind 127.0.0.1:{port}
    default_backend strict
backend strict
    server strict 127.0.0.1:{backend}
"""


def _answers(port: int) -> bool:
    """Whether it says anything to bytes that no backend gets to see: a listening socket alone proves little."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1) as connection:
            connection.sendall(b"?\0?\r\n\r\n")
            return connection.recv(100).startswith(b"HTTP/1.1 400 ")
    except OSError:
        return False


class HAProxy(Server):
    """Debian's HAProxy before one backend."""

    name = "haproxy"

    def __init__(self, folder: Path, backend: int) -> None:
        super().__init__(folder)
        self.port = free_port()
        self.program = require("haproxy")
        self._config = folder / "haproxy.cfg"
        self._config.write_text(HAPROXY_CONFIG.format(port=self.port, backend=backend))

    @property
    def version(self) -> str:
        """Such as 2.6."""
        said = subprocess.run([self.program, "-v"], capture_output=True, text=True, check=True).stdout
        found = re.search(r"version (\d+\.\d+)", said)
        assert found, said
        return found[1]

    def command(self) -> list[str]:
        return [self.program, "-db", "-f", str(self._config)]

    def is_up(self) -> bool:
        return _answers(self.port)


class Balancer(Server):
    """Ours, standing alone before fixed backends."""

    name = "balancer"

    def workers(self) -> list[int]:
        """Their pids."""
        assert self.process is not None
        pid = self.process.pid
        return [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]

    def open_sockets(self) -> int:
        """Of all workers."""
        count = 0
        for pid in self.workers():
            for link in Path(f"/proc/{pid}/fd").iterdir():
                with contextlib.suppress(FileNotFoundError):
                    count += str(link.readlink()).startswith("socket:")
        return count

    def __init__(self, folder: Path, *backends: int, options: tuple[str, ...] = ()) -> None:
        super().__init__(folder)
        self.port = free_port()
        self._backends = backends
        self._options = options

    def command(self) -> list[str]:
        command = [sys.executable, "-m", "balancer", "--listen", f"127.0.0.1:{self.port}", *self._options]
        for backend in self._backends:
            command += ["--backend", f"127.0.0.1:{backend}"]
        return command

    def is_up(self) -> bool:
        return _answers(self.port)


class ConfiguredBalancer(Balancer):
    """Ours with a configuration: `settings` are the tables of its limits and routes, in TOML."""

    def __init__(self, folder: Path, settings: str) -> None:
        super().__init__(folder)
        self._file = folder / "hitmesh.toml"
        ports = f"balancer = {self.port}\nbalancer_admin = 0\ncollector = {free_port()}\nnexus = {free_ports(3)}"
        # Every role has to be somewhere; none but this one is started, and fixed backends need none.
        node = 'address = "127.0.0.1"\nnexus = 1\nprocessor = 1\ncollector = 1\nbalancer = 1'
        self._file.write_text(f'name = "wire"\n[nodes.local]\n{node}\n[ports]\n{ports}\n{settings}')

    def command(self) -> list[str]:
        state_dir = str(self.folder / "var")
        return [sys.executable, "-m", "balancer", "--config", str(self._file), "--state-dir", state_dir]

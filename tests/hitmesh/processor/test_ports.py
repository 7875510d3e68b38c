"""The port of a processor's rows, which other datacenters reach through a firewall: real processes on loopback."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hitmesh.config import dump, parse
from hitmesh.errors import ConfigError
from hitmesh.processor.main import run as run_here
from tests.services import START_S, free_port, wait_for

Start = Callable[[], subprocess.Popen[str]]


@pytest.fixture
def port() -> int:
    return free_port()


@pytest.fixture
def start(tmp_path: Path, port: int) -> Iterator[Start]:
    """Starts a processor whose rows have that port; nothing else of its datacenter runs."""
    file = tmp_path / "dc.toml"
    node = {"address": "127.0.0.1", "nexus": 1, "processor": 1, "collector": 1}
    file.write_text(dump(parse({"name": "dc", "nodes": {"a": node}, "ports": {"rows": port}}, source="test")))
    command = [sys.executable, "-m", "hitmesh", "processor", "--config", str(file), "--state-dir", str(tmp_path)]
    started: list[subprocess.Popen[str]] = []

    def run() -> subprocess.Popen[str]:
        started.append(subprocess.Popen(command, stderr=subprocess.PIPE, text=True))
        return started[-1]

    yield run
    for each in started:
        each.kill()
        each.communicate()


def reached(port: int, process: subprocess.Popen[str]) -> socket.socket:
    """A connection to the port, once this process listens there."""

    def connect() -> socket.socket | None:
        assert process.poll() is None, process.communicate()[1]
        try:
            return socket.create_connection(("127.0.0.1", port))
        except ConnectionRefusedError:
            return None

    connection = wait_for(connect, within_s=START_S, what="the port to be open")
    assert connection is not None
    return connection


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_the_rows_have_their_port_again_at_once_after_the_processor_ended(
    start: Start, port: int, number: signal.Signals
) -> None:
    first = start()
    with reached(port, first):  # whose end the kernel remembers for a minute
        first.send_signal(number)
        first.communicate(timeout=START_S)
        second = start()
        reached(port, second).close()


def test_a_port_that_is_taken_is_an_error_in_one_line(start: Start, port: int) -> None:
    with socket.create_server(("127.0.0.1", port)):
        process = start()
        said = process.communicate(timeout=START_S)[1]
    assert process.returncode == 1
    [line] = said.splitlines()
    assert line == f"hitmesh: bind at tcp://127.0.0.1:{port}: Address already in use (another process listens there)"


def test_one_more_behind_a_router_that_forwards_nothing_to_it_is_refused(tmp_path: Path) -> None:
    outside = {"wan_address": "::1", "wan_ports": {"rows": 9030}}
    node = {"address": "127.0.0.1", "nexus": 1, "processor": 1, "collector": 1, **outside}
    config = parse({"name": "dc", "nodes": {"a": node}, "ports": {"rows": 8030}}, source="test")
    with pytest.raises(ConfigError, match=r"processor-2 isn't configured, .* \(raise nodes.a.processor\)"):
        run_here(config, name="processor-2", state_dir=tmp_path)

"""The `balancer` command: what it refuses, and that master and workers find each other through it."""

from __future__ import annotations

import json
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from balancer.main import run
from tests.balancer.process.stubs import is_alive
from tests.services import PATIENCE_S, START_S, Server, free_port, wait_for

CONFIG = """
name = "eu-west"
[nodes.n1]
address = "127.0.0.1"
nexus = 1
processor = 1
collector = 1
[timing]
drain_s = {drain_s}
[routes.default]
action = "static"
file = "{file}"
"""
BACKEND = ("--backend", "127.0.0.1:8010")


class Command(Server):
    """The command with a stub for a worker."""

    name = "balancer"

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.arguments: Sequence[str] = ()

    def command(self) -> list[str]:
        return [sys.executable, "-m", "tests.balancer.process.stubbed_main", *self.arguments]

    def is_up(self) -> bool:
        return " serves " in self.log()

    def run(self, *arguments: str) -> None:
        self.arguments = arguments
        self.start()

    def ends_with(self) -> int:
        assert self.process is not None
        return self.process.wait(PATIENCE_S)


@pytest.fixture
def balancer(tmp_path: Path) -> Iterator[Command]:
    command = Command(tmp_path)
    yield command
    command.stop()


def told(port: int) -> dict[str, Any]:
    with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S) as client:
        text = b""
        while piece := client.recv(4096):
            text += piece
    answer: dict[str, Any] = json.loads(text)
    return answer


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "either --config or --listen is needed (see balancer --help)"),
        (["--config", "x.toml", "--listen", "127.0.0.1:8000", *BACKEND], "--config and --listen don't go together"),
        (["--config", "x.toml", *BACKEND], "--backend goes with --listen"),
        (["--config", "x.toml", "--access-log", "-"], "--access-log goes with --listen"),
        (["--listen", "127.0.0.1:8000", *BACKEND, "--name", "b"], "--name goes with --config"),
        (["--listen", "127.0.0.1:8000", *BACKEND, "--state-dir", "var"], "--state-dir goes with --config"),
        (["--listen", "127.0.0.1:8000"], "--backend: at least one is needed"),
        (["--listen", "8000", *BACKEND], "--listen: '8000' must be HOST:PORT"),
        (["--listen", "::1:8000", *BACKEND], "--listen: '::1:8000' must be HOST:PORT, such as"),
        (["--listen", "[127.0.0.1]:8000", *BACKEND], "has no IPv6 address between its brackets"),
        (["--listen", "127.0.0.1:65536", *BACKEND], "--listen: '127.0.0.1:65536' must be HOST:PORT"),
        (["--listen", "127.0.0.1:8000", "--backend", "127.0.0.1:0"], "--backend: '127.0.0.1:0' must be HOST:PORT"),
        (["--listen", "127.0.0.1:8000", *BACKEND, *BACKEND], "--backend names the same backend twice"),
        (["--listen", "127.0.0.1:8000", *BACKEND, "--workers", "0"], "--workers: 0 must be between 1 and 64"),
        (["--listen", "127.0.0.1:8000", *BACKEND, "--workers", "x"], "'x' is not a valid integer"),
        (
            ["--listen", "127.0.0.1:8000", *BACKEND, "--admin", "0.0.0.0:8005"],
            "is beyond loopback, which needs a token",
        ),
        (["--listen", "127.0.0.1:8000", *BACKEND, "--admin", "127.0.0.1:8000"], "is where --listen is"),
        (["--config", "no-such.toml"], "no-such.toml: can't be read: No such file or directory"),
        (["--no-such-option"], "--no-such-option"),
    ],
)
def test_wrong_use_is_told_in_one_line(arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(arguments) == 2
    out, error = capsys.readouterr()
    assert (out, error.count("\n")) == ("", 1)
    assert error.startswith("balancer: ")
    assert words in error


def test_a_port_in_use_is_told_in_one_line() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        command = [sys.executable, "-m", "balancer", "--listen", f"127.0.0.1:{port}", *BACKEND]
        ended = subprocess.run(command, capture_output=True, text=True, timeout=START_S, check=False)
    assert (ended.returncode, ended.stderr) == (1, f"balancer: port {port} of 127.0.0.1 is in use\n")


def test_help_has_examples() -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "balancer", "--help"], capture_output=True, text=True, timeout=START_S, check=True
    )
    assert "balancer --listen 0.0.0.0:8000 --backend 10.0.0.5:8010" in ended.stdout
    assert "--worker " not in ended.stdout


def test_the_master_is_not_patched_by_gevent() -> None:
    code = (
        "import sys; sys.argv = ['balancer', '--listen', 'x']\n"
        "from balancer.__main__ import main\n"
        "import balancer.process.master\n"
        "try: main()\n"
        "finally: assert not any(name.partition('.')[0] in ('gevent', 'zmq') for name in sys.modules)\n"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=START_S, check=False)
    assert ended.returncode == 2, ended.stderr


def test_a_standalone_balancer_serves_and_ends(balancer: Command) -> None:
    port, admin = free_port(), free_port()
    listen = ["--listen", f"127.0.0.1:{port}", "--admin", f"127.0.0.1:{admin}", "--workers", "2"]
    balancer.run(*listen, *BACKEND)
    answers = [told(port) for _ in range(40)]
    assert {answer["index"] for answer in answers} == {0, 1}
    assert answers[0] | {"index": 0} == {
        "index": 0,
        "kind": "http",
        "name": "balancer",
        "backends": ["127.0.0.1:8010"],
        "standalone": True,
        "drain_s": 8.0,
        "file": "",
    }
    assert told(admin)["kind"] == "admin"
    balancer.signal(signal.SIGTERM)
    assert balancer.ends_with() == 0
    with pytest.raises(ConnectionRefusedError):
        told(port)


def test_a_configured_balancer_reloads_and_is_replaced(balancer: Command, tmp_path: Path) -> None:
    file = tmp_path / "eu-west.toml"
    file.write_text(CONFIG.format(drain_s=2.0, file="one.html"))
    balancer.run("--config", str(file), "--name", "balancer-7", "--state-dir", str(tmp_path))
    port = int(balancer.log().partition("http on 127.0.0.1:")[2].partition(",")[0])
    assert told(port)["file"] == str(tmp_path / "one.html")
    assert told(port)["name"] == "balancer-7"

    file.write_text(CONFIG.format(drain_s=2.0, file="two.html"))
    balancer.signal(signal.SIGHUP)
    wait_for(lambda: told(port)["file"] == str(tmp_path / "two.html"), what="the new configuration")

    file.write_text(CONFIG.format(drain_s=-1, file="three.html"))
    balancer.signal(signal.SIGHUP)
    wait_for(lambda: "nothing is changed" in balancer.log(), what="the mistake to be told")
    assert "eu-west.toml: timing.drain_s" in balancer.log()
    balancer.signal(signal.SIGUSR2)
    wait_for(lambda: "check ended with status 2" in balancer.log(), what="the mistake to be told by the new version")

    file.write_text(CONFIG.format(drain_s=3.0, file="four.html"))
    balancer.signal(signal.SIGUSR2)
    wait_for(lambda: told(port)["file"] == str(tmp_path / "four.html"), what="the new version")
    assert balancer.process is not None and balancer.process.poll() is None


def test_a_new_version_takes_the_configuration_that_it_has_checked(
    balancer: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "eu-west.toml"
    file.write_text(CONFIG.format(drain_s=2.0, file="one.html"))
    monkeypatch.setenv("BROKEN_BY_CHECK", str(file))
    balancer.run("--config", str(file))
    port = int(balancer.log().partition("http on 127.0.0.1:")[2].partition(",")[0])
    file.write_text(CONFIG.format(drain_s=2.0, file="two.html"))
    balancer.signal(signal.SIGUSR2)
    wait_for(lambda: told(port)["file"] == str(tmp_path / "two.html"), what="the new version")
    assert file.read_text() == "broken"


def test_a_worker_that_hangs_while_it_drains_ends_soon_after_its_master_was_killed(
    balancer: Command, tmp_path: Path
) -> None:
    file = tmp_path / "eu-west.toml"
    route = '\naction = "proxy"\nbackends = ["127.0.0.1:1"]\n'
    text = CONFIG.format(drain_s=0.0, file="").partition("action")[0].rstrip() + route
    file.write_text(text)
    balancer.run("--config", str(file))
    assert balancer.process is not None
    children = Path(f"/proc/{balancer.process.pid}/task/{balancer.process.pid}/children")
    (worker,) = map(int, children.read_text().split())
    balancer.kill()
    wait_for(lambda: not is_alive(worker), what="the worker to end")


def test_the_console_script_is_the_same_program() -> None:
    script = shutil.which("balancer", path=str(Path(sys.executable).parent))
    if script is None:
        pytest.skip("the package was installed before it had this script")
    ended = subprocess.run([script, "--version"], capture_output=True, text=True, timeout=START_S, check=True)
    assert ended.stdout.startswith("balancer, version ")

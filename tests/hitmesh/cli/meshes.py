"""Whole meshes on this machine for tests of the commands: real processes on free ports."""

from __future__ import annotations

import contextlib
import http.client
import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from hitmesh.cli import folder
from hitmesh.cli.layout import BLOCK_PORTS
from hitmesh.cli.processes import Process, of_mesh
from hitmesh.config import dump, load
from tests.services import PATIENCE_S, wait_for
from tests.services.nexus import MESHES, free_ports

HITMESH = [sys.executable, "-m", "hitmesh"]
DEV = Path(__file__).parents[3] / "config" / "dev.toml"
UP_S = 150.0  # a busy machine starts fourteen processes in a minute
SOON_S = 60.0  # for what takes a second or two on a quiet machine
# A mesh starts and stops in heartbeats. Dead after 10 s, which a busy machine doesn't reach, nor 10 s for a read.
TIMING = {"heartbeat_s": 0.5, "missed_heartbeats": 20, "retry_delay_s": 2.0, "claim_s": 4.0, "read_s": 10.0}
# A command that asks Nexuses, each for longer than it would by itself, and waits longer for a setting to be in force.
PATIENT = """
import sys
from hitmesh.mesh.lookup import Lookups
Lookups.__init__.__defaults__ = (float(sys.argv.pop(1)),)
if sys.argv[1] == "config":
    from hitmesh.cli import config
    config.WAIT_S = 60.0
from hitmesh.cli.main import run
sys.exit(run())
"""
ANSWER_S = 10.0  # of a Nexus that is there
DATACENTERS = 3  # at most in a mesh of the tests


@dataclass
class Mesh:
    """One state folder, and the commands on it."""

    state_dir: Path
    base_port: int
    config: Path
    shown: str = ""  # by the last `up`

    def command(self, *arguments: str) -> list[str]:
        return [*HITMESH, *arguments, "--state-dir", str(self.state_dir)]

    def patient_command(self, *arguments: str, answer_s: float = ANSWER_S) -> list[str]:
        """The same of a command that shall not take a busy Nexus for one that is away."""
        return [sys.executable, "-c", PATIENT, str(answer_s), *arguments, "--state-dir", str(self.state_dir)]

    def up_arguments(self, dcs: str) -> list[str]:
        return ["up", "--config", str(self.config), "--dcs", dcs, "--base-port", str(self.base_port)]

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return finished(self.command(*arguments))

    def run_patiently(self, *arguments: str, answer_s: float = ANSWER_S) -> subprocess.CompletedProcess[str]:
        return finished(self.patient_command(*arguments, answer_s=answer_s))

    def up(self, dcs: str = "one", *options: str) -> str:
        answer = self.run(*self.up_arguments(dcs), *options, "-d")
        assert answer.returncode == 0, answer.stderr
        self.shown = answer.stdout
        return answer.stdout

    def up_unread(self, dcs: str = "one") -> None:
        """Like `up`, with nobody who reads what it says."""
        command = self.command(*self.up_arguments(dcs), "-d")
        with running(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
            assert process.stdout is not None
            process.stdout.close()
            process.wait(UP_S)

    def json(self, *arguments: str) -> Any:
        answer = (self.run_patiently if arguments[0] in ("status", "audit") else self.run)(*arguments, "--json")
        assert answer.stdout, answer.stderr
        return json.loads(answer.stdout)

    def status(self) -> dict[str, dict[str, Any]]:
        return {f"{each['dc']}-{each['name']}": each for each in self.json("status")}

    def supervisorctl(self, *arguments: str) -> str:
        command = [sys.executable, "-m", "supervisor.supervisorctl", "-c", str(self.state_dir / "supervisord.conf")]
        return subprocess.run([*command, *arguments], capture_output=True, text=True, timeout=UP_S, check=False).stdout

    def urls(self, dc: str, role: str) -> list[str]:
        urls: list[str] = self.json("endpoints")[dc][role]
        return urls

    def processes(self) -> list[Process]:
        return of_mesh(self.state_dir)

    def left(self) -> list[str]:
        """Command lines of whatever process names a configuration of this mesh, workers included."""
        found = []
        for entry in Path("/proc").glob("[0-9]*/cmdline"):
            with contextlib.suppress(OSError):
                words = entry.read_bytes().decode(errors="replace").split("\0")
                if any(word.startswith(f"{self.state_dir}/") and word.endswith(".toml") for word in words):
                    found.append(" ".join(words))
        return found


def finished(command: Sequence[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, timeout=UP_S, check=False)


@contextlib.contextmanager
def running(command: Sequence[str], **options: Any) -> Iterator[subprocess.Popen[str]]:
    """A command that is waited for; when the test fails meanwhile, it is killed."""
    with subprocess.Popen(command, text=True, **options) as process:
        try:
            yield process
        except BaseException:
            process.kill()
            raise


def hit(url: str, page: str) -> dict[str, Any]:
    connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=PATIENCE_S)
    with contextlib.closing(connection):
        connection.request("POST", f"/hit/{page}")
        answer = connection.getresponse()
        assert answer.status == 200, answer.read()
        found: dict[str, Any] = json.loads(answer.read())
        return found


def status_of(url: str, method: str, path: str, body: str | None = None, host: str = "127.0.0.1") -> int:
    connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=PATIENCE_S)
    with contextlib.closing(connection):
        connection.request(method, path, body, {"Host": host})
        return connection.getresponse().status


def put_and_delete_a_live_route(mesh: Mesh) -> None:
    """Through eu-west's admin listener, until its balancer has done as it says, and no longer does."""
    [admin], [balancer] = mesh.urls("eu-west", "balancer_admin"), mesh.urls("eu-west", "balancer")

    def asked() -> int:
        return status_of(balancer, "GET", "/health", host="live.example")

    assert status_of(admin, "PUT", "/routes/live.example", '{"action": "empty", "status": 410}') in {200, 201}
    wait_for(lambda: asked() == 410, within_s=SOON_S, what="the live route in force")
    assert status_of(admin, "DELETE", "/routes/live.example") in {200, 204}
    wait_for(lambda: asked() == 200, within_s=SOON_S, what="the configured route in force again")


@contextlib.contextmanager
def meshes(
    state_dir: Path, *, address: str = "127.0.0.1", insecure: bool = False, spool: str = "", **instances: int
) -> Iterator[Mesh]:
    """A mesh that can be started, with so many instances; all of it is gone afterwards.

    Dashboards and recorders only where asked for.
    """
    template = load(DEV)
    node = msgspec.structs.replace(
        template.nodes["local"], address=address, **{"dashboard": 0, "recorder": 0, **instances}
    )
    timing = msgspec.structs.replace(template.timing, **TIMING)
    stores = msgspec.structs.replace(template.stores, spools=(spool,)) if spool else template.stores
    state_dir.parent.mkdir(parents=True, exist_ok=True)
    config = state_dir.parent / "template.toml"
    made = msgspec.structs.replace(template, nodes={"local": node}, timing=timing, insecure=insecure, stores=stores)
    config.write_text(dump(made))
    mesh = Mesh(state_dir, free_ports(DATACENTERS * BLOCK_PORTS, within=MESHES, step=100), config)
    try:
        yield mesh
    finally:
        said = mesh.run("down").stderr
    assert not mesh.left(), said
    path = folder.socket_path(state_dir)
    assert path is None or not path.exists(), said


def settled(mesh: Mesh) -> Any:
    report = mesh.json("audit")
    return report if report["in_flight"] == report["spooled"] == 0 else None

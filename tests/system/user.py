"""Somebody at a terminal: runs the commands of a mesh as a user does, in a state folder of the test's.

`mesh` starts one datacenter and leaves nothing behind. What a test asks often is read in this
process (stores, spools, Nexuses): a command is a process, and takes half a second.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from hitmesh.cli import folder as state_folder
from hitmesh.cli.options import CONFIG_NAME
from hitmesh.cli.processes import started, strays
from hitmesh.config import Config, dump, load, parse
from hitmesh.errors import MeshError
from hitmesh.mesh.lookup import Lookups
from hitmesh.protocol.messages import Head, Instance, Job, Seen, decode
from hitmesh.protocol.pages import partition_of
from hitmesh.spool.open import open_spool
from hitmesh.spool.sqlite import SqliteSpool
from hitmesh.store.open import open_store
from hitmesh.store.totals import decode_head, read_totals
from tests.services import wait_for
from tests.services.nexus import MESHES, free_ports
from tests.system.mesh import Process

HITMESH = [sys.executable, "-m", "hitmesh"]
DC: Final = "eu-west"
PORTS_A_BLOCK: Final = 60  # of a hundred; the rest is nobody's
UP_S: Final = 120.0
SETTLED_S: Final = (
    90.0  # for the last acks and claims; a quiet machine needs a few, a busy one some resends of 15 s each
)
PATIENCE_S: Final = 60.0  # of whoever waits for what takes a second or two on a quiet machine
LOOKUP_S: Final = 2.0  # for one Nexus's answer, before another one is asked
# Timing for tests in which nobody shall be called dead or be killed for being slow: on a busy machine all are.
PATIENT: Final[Mapping[str, float]] = {"missed_heartbeats": 60, "drain_s": 60.0}
STOPPED_S: Final = PATIENT["drain_s"] + 30.0  # for the end of a process that was told to stop


class User:
    """Somebody at a terminal with a mesh in `folder`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    # --- commands -------------------------------------------------------------------------

    def run(self, *words: str, within_s: float = UP_S) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*HITMESH, *words, "--state-dir", str(self.folder)],
            capture_output=True,
            text=True,
            timeout=within_s,
            check=False,
        )

    def ask(self, *words: str, within_s: float = UP_S) -> Any:
        answer = self.run(*words, "--json", within_s=within_s)
        assert answer.stdout, answer.stderr
        return json.loads(answer.stdout)

    def supervisorctl(self, *words: str) -> str:
        command = [sys.executable, "-m", "supervisor.supervisorctl", "-c", str(self.folder / "supervisord.conf")]
        answer = subprocess.run([*command, *words], capture_output=True, text=True, timeout=UP_S, check=False)
        return answer.stdout + answer.stderr

    def totals(self) -> dict[str, int]:
        return {entry["page"]: entry["total"] for entry in self.ask("top", "-n", "100000")}

    def pid(self, name: str) -> int:
        (found,) = [entry["pid"] for entry in self.ask("status") if entry["name"] == name]
        return int(found)

    def supervised(self) -> list[str]:
        return [entry["name"] for entry in self.ask("status")]

    @contextlib.contextmanager
    def by_hand(self, role: str, name: str) -> Iterator[Process]:
        """An instance that nobody supervises; its whole process group is gone afterwards."""
        command = [*HITMESH, role, "--config", str(self.config_path), "--name", name, "--state-dir", str(self.folder)]
        process = Process(command, self.folder / f"{name}.log", {})
        process.start()
        try:
            yield process
        finally:
            process.signal(signal.SIGCONT)
            process.kill()

    # --- who is there ---------------------------------------------------------------------

    @property
    def config_path(self) -> Path:
        return self.folder / DC / CONFIG_NAME

    @property
    def config(self) -> Config:
        return load(self.config_path)

    def seen(self, within_s: float = PATIENCE_S) -> list[Seen]:
        """Everybody of this datacenter that a Nexus knows, the dead too. Raises MeshError when none answers in time."""
        deadline = time.monotonic() + within_s
        with Lookups.of(self.config, timeout_s=min(LOOKUP_S, within_s)) as lookups:
            while True:
                try:
                    return [one for one in lookups.snapshot().seen if one.instance.dc == self.config.name]
                except MeshError:
                    if time.monotonic() > deadline:
                        raise

    def living(self) -> dict[str, Instance]:
        """Who is alive by a Nexus's snapshot. Raises MeshError when no Nexus answers."""
        return {one.instance.name: one.instance for one in self.seen() if one.alive}

    def dead(self) -> set[str]:
        """The ids of those who fell silent; whoever has said goodbye is none of them."""
        return {one.instance.id for one in self.seen() if not one.alive}

    def owned(self) -> dict[int, str]:
        """Partition -> the name of the living processor that claims it."""
        return {partition: name for name, one in self.living().items() for partition in one.owns}

    def owner_of(self, page: str) -> str:
        """The name of the processor that owns the page's partition, by the head in the store."""
        return self.heads()[partition_of(page, self.config.partitions)].owner.split(".")[0]

    def collectors(self) -> list[str]:
        """The URLs of the configured collectors."""
        return [f"http://{each.address}:{each.port}" for each in self.config.instances("collector")]

    def processes(self) -> list[int]:
        """supervisord and all that descends from it, each parent before its children."""
        return descendants(int(state_folder.pid_path(self.folder).read_text()))

    # --- what is on disk ------------------------------------------------------------------

    def committed(self, prefix: str = "") -> dict[str, int]:
        """Every page's total as committed, of the pages that begin with `prefix`."""
        with contextlib.closing(open_store(self.config, self.folder / DC)) as store:
            found = read_totals(store)
        return {page: sum(counts.values()) for page, counts in found.items() if page.startswith(prefix)}

    def heads(self) -> dict[int, Head]:
        """Every partition's head."""
        with contextlib.closing(open_store(self.config, self.folder / DC)) as store:
            return {at: decode_head(at, stored) for at, stored, _ in store.scan() if stored is not None}

    def jobs(self) -> list[Job]:
        """The jobs in an SQLite spool."""
        with contextlib.closing(open_spool(self.config, self.folder / DC)) as spool:
            assert isinstance(spool, SqliteSpool)
            return [decode(body, Job) for _, _, body in spool.jobs()]

    def spooled(self) -> int:
        """Jobs in the spool: in the fullest of its copies that answer."""
        with contextlib.closing(open_spool(self.config, self.folder / DC)) as spool:
            copies = [copy for copy in spool.stats() if copy.usable]
        assert copies, "no copy of the spool answers"
        return max(copy.waiting + copy.ready + copy.claimed + copy.buried for copy in copies)

    def wait_until_settled(self, within_s: float = SETTLED_S) -> None:
        """Wait until the spool is empty: everything that was accepted is committed."""
        wait_for(lambda: self.spooled() == 0, within_s=within_s, what="an empty spool")

    def assert_balanced(self) -> dict[str, Any]:
        """What `hitmesh audit` says, which must be that the books balance."""
        audit: dict[str, Any] = self.ask("audit")
        assert audit["balanced"], audit["problems"]
        return audit


@contextlib.contextmanager
def mesh(
    folder: Path,
    *words: str,
    stores: Mapping[str, Any] | None = None,
    timing: Mapping[str, float] | None = None,
    **instances: int,
) -> Iterator[User]:
    """One datacenter started by `hitmesh up -d` with these words; two of each role unless said."""
    node = {"nexus": 2, "processor": 2, "collector": 2, **instances}
    with mesh_of(folder, node, {"stores": dict(stores or {}), "timing": dict(timing or {})}, *words) as user:
        yield user


@contextlib.contextmanager
def mesh_of(folder: Path, node: Mapping[str, int], tables: Mapping[str, Any], *words: str) -> Iterator[User]:
    """The same of one node with so many instances, and these tables in its file."""
    folder.mkdir(parents=True, exist_ok=True)
    config = folder / "template.toml"
    data = {"name": "dev", "nodes": {"local": {"address": "127.0.0.1", **node}}, **tables}
    config.write_text(dump(parse(data, source="test")))
    user = User(folder / "var")
    try:
        up(user, "--config", str(config), "--base-port", str(free_block()), *words)
        yield user
    finally:
        stopped = user.run("down")
        left = [each.name for each in strays(user.folder)]
    assert not left, f"{left} were left: {stopped.stderr}"


def up(user: User, *words: str) -> None:
    """`hitmesh up -d` of one datacenter with these words, which must do it."""
    started = user.run("up", "-d", "--dcs", DC, *words, within_s=UP_S)
    assert started.returncode == 0, started.stderr


def up_again(user: User) -> None:
    """`hitmesh up -d` as `mesh` has done it, in the same folder and on the same ports."""
    template, base_port = user.folder.parent / "template.toml", user.config.ports.collector // 100 * 100
    up(user, "--config", str(template), "--base-port", str(base_port))


def answer_to(url: str, method: str, path: str) -> tuple[int, Any]:
    """The status and the JSON of one request on a connection of its own. Raises OSError or HTTPException."""
    connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=PATIENCE_S)
    with contextlib.closing(connection):
        connection.request(method, path)
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())


def hit_all(url: str, pages: Sequence[str]) -> None:
    """One hit on each page, one after the other, all of which must be accepted."""
    for page in pages:
        status, answer = answer_to(url, "POST", f"/hit/{page}")
        assert status == 200, answer


def descendants(pid: int) -> list[int]:
    """A process and all that descends from it, parents first."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                parent = int((entry / "stat").read_text(errors="replace").rpartition(")")[2].split()[1])
                children.setdefault(parent, []).append(int(entry.name))
    found = [pid]
    for each in found:
        found += children.get(each, [])
    return found


def kill_all(pids: Sequence[int]) -> None:
    """SIGKILL each, parents before their children, which nobody can start again then.

    Not stopped first: the kernel wakes stopped orphans with SIGHUP, on which gunicorn starts a worker.
    """
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    wait_for(lambda: not any(map(started, pids)), within_s=PATIENCE_S, what="the end of the killed")


def free_block() -> int:
    """The start of a hundred ports of which those that a datacenter uses are free now."""
    return free_ports(PORTS_A_BLOCK, within=MESHES, step=100)

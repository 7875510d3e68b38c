"""A mesh of real processes for tests: any number of instances a role, on free ports, in one folder.

    with Mesh(tmp_path, processors=2, collectors=2) as mesh:
        assert mesh.hit("s/a").json()["total"] == 1
        mesh.kill("processor-1")
        mesh.start("processor-1")
        wait_for(lambda: mesh.totals() == {"s/a": 1})

An instance is its process and everything that this one starts, in a session of its own: `kill` and
`pause` reach all of it (a collector is gunicorn's master and its worker). `stop` leaves nothing.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Final

from hitmesh.config import Config, dump, parse
from hitmesh.errors import MeshError
from hitmesh.mesh.lookup import Lookups
from hitmesh.protocol.messages import Seen
from hitmesh.protocol.pages import page_to_path, partition_of
from hitmesh.spool import CopyStats
from hitmesh.spool.open import open_spool
from hitmesh.store.open import open_store
from hitmesh.store.totals import PartitionBooks, read_books, read_totals
from tests.services import wait_for
from tests.services.keys import key_for, with_keys
from tests.services.nexus import free_ports

READY_S: Final = 120.0  # a mesh is ready within 3 s of a quiet machine
ANSWER_S: Final = 60.0  # far more than a collector lets anybody wait
LOOKUP_S: Final = 2.0  # for one Nexus's answer, before another one is asked
# Dead after 20 s, which a busy machine doesn't reach; and a retry before a test gets bored.
TIMING: Final[Mapping[str, float]] = {"heartbeat_s": 0.5, "missed_heartbeats": 40, "retry_delay_s": 2.0, "claim_s": 4.0}


@dataclass(frozen=True)
class Answer:
    """An HTTP answer; header names in small letters."""

    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


class Process:
    """One instance of a role as a process group, whose first process is `pid`; started again after its end."""

    def __init__(self, command: Sequence[str], log: Path, env: Mapping[str, str]) -> None:
        self.command = list(command)
        self.log = log
        self.env = dict(env)
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        assert self._process is not None, f"{self.log.stem} was never started"
        return self._process.pid

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        assert not self.is_running, f"{self.log.stem} runs already"
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self.command, stdout=log, stderr=log, env={**os.environ, **self.env}, start_new_session=True
            )

    def signal(self, number: int) -> None:
        """Send a signal to all of its processes."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, number)

    def wait(self, within_s: float) -> int:
        """Wait for the first process's end; its exit status."""
        assert self._process is not None
        return self._process.wait(within_s)

    def kill(self) -> None:
        """SIGKILL to all of its processes, those included that outlive the first one."""
        if self._process is not None:
            self.signal(signal.SIGKILL)
            self._process.wait()


class Mesh:
    """One datacenter. Instances are named as in its configuration: nexus-1, processor-1, collector-1...

            key_for(self.config, role, name)
    `totals`, `settings` and `spools` are URLs as in the configuration, of servers that the test has started.
    `timing`, `limits`, `balancer`, `alerts` and `recorder` replace settings. `wrappers` are words put before a command, such as strace
    and its options, and `env` adds variables: both by instance name or by role.
    """

    def __init__(
        self,
        folder: Path,
        *,
        nexuses: int = 1,
        processors: int = 1,
        collectors: int = 1,
        recorders: int = 0,
        partitions: int = 8,
        totals: str = "sqlite:///totals.db",
        settings: str = "sqlite:///settings.db",
        spools: Sequence[str] = ("sqlite:///spool.db",),
        spool_copies: int = 0,
        timing: Mapping[str, float] | None = None,
        limits: Mapping[str, int] | None = None,
        balancer: Mapping[str, Any] | None = None,
        alerts: Mapping[str, Any] | None = None,
        recorder: Mapping[str, Any] | None = None,
        wrappers: Mapping[str, Sequence[str]] | None = None,
        env: Mapping[str, Mapping[str, str]] | None = None,
        name: str = "dc-test",
        keys: bool = True,
    ) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        ports = free_ports(3 * nexuses + collectors + 2 * recorders)
        node = {"address": "127.0.0.1", "nexus": nexuses, "processor": processors, "collector": collectors}
        if recorders:
            node["recorder"] = recorders
        first = ports + 3 * nexuses + collectors
        self.config: Config = parse(
            {
                "name": name,
                "nodes": {"local": node},
                "partitions": partitions,
                "ports": {
                    "nexus": ports,
                    "collector": ports + 3 * nexuses,
                    **({"recorder": first} if recorders else {}),
                },
                "stores": {
                    "totals": totals,
                    "settings": settings,
                    "spools": list(spools),
                    "spool_copies": spool_copies,
                },
                "timing": {**TIMING, **(timing or {})},
                "limits": dict(limits or {}),
                "balancer": dict(balancer or {}),
                "alerts": dict(alerts or {}),
                "recorder": dict(recorder or {}),
            },
            source="test",
        )
        if keys:
            self.config = with_keys(self.config, folder / "keys")
        self.file = folder / "hitmesh.toml"
        self.file.write_text(dump(self.config))
        self.names: list[str] = [
            placement.name
            for role in ("nexus", "recorder", "processor", "collector")
            for placement in self.config.instances(role)
        ]
        """Every configured instance."""
        self._wrappers = dict(wrappers or {})
        self._env = dict(env or {})
        self._processes: dict[str, Process] = {}

    def __enter__(self) -> Mesh:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()

    # --- processes ------------------------------------------------------------------------

    def start(self, *names: str) -> None:
        """Start these instances, or all that are configured, and wait until the mesh is ready."""
        for name in names or self.names:
            self.launch(name)
        self.wait_until_ready()

    def launch(self, name: str) -> None:
        """Start an instance without waiting; one that isn't configured (collector-7) joins the others."""
        role = name.rpartition("-")[0]
        if name not in self._processes:
            key_for(self.config, role, name)
            command = [sys.executable, "-m", *([role] if role in ("nexus", "balancer") else ["hitmesh", role])]
            command += ["--config", str(self.file), "--name", name, "--state-dir", str(self.folder)]
            wrapper = self._wrappers.get(name, self._wrappers.get(role, ()))
            env = self._env.get(name, self._env.get(role, {}))
            self._processes[name] = Process([*wrapper, *command], self.folder / f"{name}.log", env)
        self._processes[name].start()

    def run_under(self, env: Mapping[str, str], *names: str) -> None:
        """These instances are started with this environment, and no other, from their next start on."""
        self._env.update(dict.fromkeys(names, env))

    def wait_until_ready(self, within_s: float = READY_S) -> None:
        """Wait until every started instance heartbeats, partitions are owned, and collectors take hits."""

        def is_ready() -> bool:
            for name in self._started():
                process = self._processes[name]
                assert process.is_running, f"{name} has ended: {self.log(name)[-2000:]}"
            return not self.lacking()

        try:
            wait_for(is_ready, within_s=within_s, what="the mesh to be ready")
        except AssertionError as error:
            logs = "\n".join(f"--- {name}\n{self.log(name)[-1500:]}" for name in self._started())
            raise AssertionError(f"{error}; lacking: {self.lacking()}\n{logs}") from error

    def lacking(self) -> list[str]:
        """What isn't ready: instances by name, partitions without an owner, collectors that take no hit."""
        seen = {one.instance.name: one for one in self.living() if self._is_ours(one)}
        lacking = [name for name in self._started() if name not in seen]
        owned = {number for one in seen.values() for number in one.instance.owns}
        if missing := self.config.partitions - len(owned):
            lacking.append(f"{missing} partitions")
        if not lacking:
            collectors = [name for name in self._started() if name.startswith("collector")]
            lacking += [f"{name}'s health" for name in collectors if not self._is_healthy(name)]
        return lacking

    def kill(self, name: str) -> None:
        """SIGKILL all of an instance; `start` brings it back."""
        self._processes.pop(name).kill()

    def terminate(self, name: str, within_s: float = 60.0) -> int:
        """SIGTERM, so that it drains; its exit status."""
        process = self._processes[name]
        os.kill(process.pid, signal.SIGTERM)
        try:
            return process.wait(within_s)
        finally:
            self.kill(name)

    def pause(self, name: str) -> None:
        """SIGSTOP all of an instance: it lives, and does nothing."""
        self._processes[name].signal(signal.SIGSTOP)

    def resume(self, name: str) -> None:
        """SIGCONT."""
        self._processes[name].signal(signal.SIGCONT)

    def pid(self, name: str) -> int:
        """The process that heartbeats: of a collector gunicorn's worker, not its master."""
        return next(one.instance.pid for one in self.living() if one.instance.name == name and self._is_ours(one))

    def log(self, name: str) -> str:
        """What an instance has written so far, over all of its lives."""
        return (self.folder / f"{name}.log").read_text(errors="replace")

    def stop(self) -> None:
        """SIGTERM to everybody, then SIGKILL; collectors first, so that they can drain."""
        for role in ("dashboard", "balancer", "collector", "processor", "recorder", "nexus"):
            stopping = [self._processes[name] for name in self._started() if name.startswith(role)]
            for process in stopping:
                process.signal(signal.SIGCONT)
                process.signal(signal.SIGTERM)
            for process in stopping:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(self.config.timing.drain_s + 5)
                process.kill()

    # --- who is there ---------------------------------------------------------------------

    def living(self) -> list[Seen]:
        """The living instances as a Nexus knows them; none when no Nexus answers."""
        with Lookups.of(self.config, timeout_s=LOOKUP_S) as lookups:
            try:
                return [one for one in lookups.snapshot().seen if one.alive and one.instance.dc == self.config.name]
            except MeshError:
                return []

    def owner_of(self, page: str) -> str | None:
        """The name of the processor that owns the page's partition."""
        number = partition_of(page, self.config.partitions)
        return next((one.instance.name for one in self.living() if number in one.instance.owns), None)

    def address(self, collector: str = "collector-1") -> tuple[str, int]:
        """Where a collector listens."""
        port = self.config.placement("collector", collector).port
        if port is None:
            url = next(one.instance.endpoints["http"] for one in self.living() if one.instance.name == collector)
            port = int(url.rpartition(":")[2])
        return "127.0.0.1", port

    # --- HTTP -----------------------------------------------------------------------------

    def request(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        *,
        collector: str = "collector-1",
    ) -> Answer:
        """One request on a connection of its own. Raises OSError or HTTPException when nobody answers."""
        connection = http.client.HTTPConnection(*self.address(collector), timeout=ANSWER_S)
        with contextlib.closing(connection):
            connection.request(method, path, body, dict(headers or {}))
            answer = connection.getresponse()
            found = {name.lower(): value for name, value in answer.getheaders()}
            return Answer(answer.status, found, answer.read())

    def hit(self, page: str, *, collector: str = "collector-1") -> Answer:
        """POST /hit/<page>."""
        return self.request("POST", f"/hit/{page_to_path(page)}", collector=collector)

    # --- what is on disk ------------------------------------------------------------------

    def totals(self) -> dict[str, int]:
        """Every page's total as committed, read from the store itself."""
        store = open_store(self.config, self.folder / self.config.name)
        with contextlib.closing(store):
            return {page: sum(counts.values()) for page, counts in read_totals(store).items()}

    def books(self) -> list[PartitionBooks]:
        """What the heads and the rows say."""
        store = open_store(self.config, self.folder / self.config.name)
        with contextlib.closing(store):
            return read_books(store, self.config.name)

    def spool(self) -> list[CopyStats]:
        """The spool's jobs, an entry a copy."""
        spool = open_spool(self.config, self.folder / self.config.name)
        with contextlib.closing(spool):
            return spool.stats()

    def is_settled(self) -> bool:
        """Whether no copy of the spool holds a job."""
        return all(copy.usable and copy.waiting + copy.ready + copy.claimed == 0 for copy in self.spool())

    # --- within ---------------------------------------------------------------------------

    def _started(self) -> list[str]:
        return [name for name, process in self._processes.items() if process._process is not None]

    def _is_ours(self, seen: Seen) -> bool:
        """Whether it is the process that runs now: one that was killed is called alive for a while."""
        process = self._processes.get(seen.instance.name)
        try:
            return process is not None and process.is_running and os.getpgid(seen.instance.pid) == process.pid
        except ProcessLookupError:
            return False

    def _is_healthy(self, collector: str) -> bool:
        try:
            return self.request("GET", "/health", collector=collector).status == http.client.OK
        except (OSError, http.client.HTTPException):
            return False

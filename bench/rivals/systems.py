"""The systems of the bench, each with one web process: started on free ports, asked for their totals, stopped by pid.

All are durable in the same way: a hit is answered when it has been synced to a disk. A system that can't be started here
says which program is missing (`missing`).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from importlib.util import find_spec
from pathlib import Path
from typing import ClassVar, Final
from urllib.request import urlopen

from bench import seats
from bench.counting import BIN, Roles, audit, down, up
from bench.ports import free_port, wait_for_answer
from hitmesh.cli import folder as state_folder

PAGE: Final = "example.com/front"
STOP_S: Final = 10.0
ROOT: Final = Path(__file__).parents[2]

REDIS: Final = """
port {port}
bind 127.0.0.1
dir {folder}
save ""
appendonly yes
appendfsync always
"""


class System(ABC):
    """One of them. `name` is for people; `path` is a hit's, of the page PAGE."""

    name: ClassVar[str]
    programs: ClassVar[tuple[str, ...]] = ()
    packages: ClassVar[tuple[str, ...]] = ()
    path: ClassVar[str] = f"/hit/{PAGE}"
    keeps_alive: ClassVar[bool] = True

    def __init__(self) -> None:
        self.port = 0
        self._started = ExitStack()
        self._pids: list[int] = []

    @classmethod
    def missing(cls) -> list[str]:
        """Programs and packages that it needs and that aren't here."""
        programs = [each for each in cls.programs if seats.find(each) is None]
        return programs + [each for each in cls.packages if find_spec(each) is None]

    @abstractmethod
    def start(self, folder: Path) -> None:
        """Until it answers; what it writes goes to `folder`, which is its own."""

    @abstractmethod
    def counted(self) -> int:
        """Hits of PAGE that are counted by now."""

    def verdict(self, answered: int, left: int) -> str:
        """What its books say after so many answers, and at most `left` more requests that nobody waited for; for people."""
        counted = self.counted()
        if answered <= counted <= answered + left:
            return f"{answered:,} answered, all counted, and {counted - answered:,} that wrk had left"
        if counted < answered:
            return f"{answered:,} answered, of which {answered - counted:,} are NOT counted"
        return f"{answered:,} answered, {counted:,} counted: {counted - answered - left:,} TOO MANY"

    def stop(self) -> None:
        """End what was started."""
        self._started.close()

    @property
    def request(self) -> bytes:
        """A hit."""
        return f"GET {self.path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode()

    def cpu_s(self) -> float:
        """Processor time of all its processes."""
        return sum(seats.cpu_s(pid) for pid in self._pids)

    def cpu_s_by_role(self) -> Mapping[str, float]:
        """The same by role; nothing where there are none."""
        return {}

    def _run(self, command: Sequence[str], **environment: str) -> None:
        log = self._started.enter_context((self._folder / f"{len(self._pids)}.log").open("wb"))
        process = subprocess.Popen(
            command, cwd=ROOT, env={**os.environ, **environment}, stdout=log, stderr=subprocess.STDOUT
        )
        self._pids.append(process.pid)
        self._started.callback(_end, process)

    def _redis(self) -> int:
        port = free_port()
        config = self._folder / "redis.conf"
        config.write_text(REDIS.format(port=port, folder=self._folder))
        self._run(["redis-server", str(config)])
        return port

    def _begin(self, folder: Path) -> None:
        folder.mkdir()
        self._folder = folder
        self.port = free_port()

    def _await(self) -> None:
        wait_for_answer(f"http://127.0.0.1:{self.port}/", lambda: True)


class Hitmesh(System):
    """One collector, one processor, one Nexus; a pair of synced beanstalkds and a Consul server."""

    name = "hitmesh"
    programs: ClassVar[tuple[str, ...]] = ("beanstalkd", "consul")
    embedded = False

    def start(self, folder: Path) -> None:
        folder.mkdir()
        self._state_dir = folder / "var"
        url = up(self._state_dir, embedded=self.embedded)
        self._started.callback(down, self._state_dir)
        self.port = int(url.rpartition(":")[2])
        self._pids = [int(state_folder.pid_path(self._state_dir).read_text())]
        self._roles = Roles(self._state_dir)

    def cpu_s_by_role(self) -> Mapping[str, float]:
        return self._roles.cpu_s()

    def counted(self) -> int:
        with urlopen(f"http://127.0.0.1:{self.port}/total/{PAGE}") as answer:
            total: int = json.load(answer)["total"]
            return total

    def committed(self) -> int:
        """Hits that are committed, as the auditor reads them."""
        committed: int = audit(self._state_dir)["committed"]
        return committed

    def verdict(self, answered: int, left: int) -> str:
        books = audit(self._state_dir)
        return f"{super().verdict(answered, left)}; audit {'balanced' if books['balanced'] else 'NOT BALANCED'}"


class HitmeshEmbedded(Hitmesh):
    """The same on SQLite alone."""

    name = "hitmesh, SQLite"
    programs = ()
    embedded = True


class Webdis(System):
    """webdis before Redis with appendfsync always: both are C."""

    name = "webdis + Redis"
    programs = ("webdis", "redis-server")
    path = f"/INCR/{PAGE.replace('/', '%2F')}"

    def start(self, folder: Path) -> None:
        self._begin(folder)
        self.redis = self._redis()
        config = folder / "webdis.json"
        config.write_text(
            json.dumps(
                {
                    "redis_host": "127.0.0.1",
                    "redis_port": self.redis,
                    "http_host": "127.0.0.1",
                    "http_port": self.port,
                    "threads": 1,
                    "pool_size": 64,
                    "daemonize": False,
                    "websockets": False,
                    "database": 0,
                    "verbosity": 1,
                    "logfile": str(folder / "webdis.log"),
                }
            )
        )
        wait_for_redis(self.redis)
        self._run(["webdis", str(config)])
        self._await()

    def counted(self) -> int:
        return redis_count(self.redis, PAGE)


class RedisAlone(System):
    """Redis with appendfsync always, spoken to in its own protocol."""

    name = "Redis"
    programs = ("redis-server", "redis-benchmark")
    rate = 0.0
    """Increments a second in the last turn."""

    def start(self, folder: Path) -> None:
        self._begin(folder)
        self.port = self._redis()
        wait_for_redis(self.port)

    def counted(self) -> int:
        return redis_count(self.port, PAGE)


class FalconRedis(System):
    """Falcon under one gevent worker of gunicorn, before Redis with appendfsync always."""

    name = "Falcon, gunicorn + Redis"
    programs = ("redis-server",)
    packages = ("redis",)

    def start(self, folder: Path) -> None:
        self._begin(folder)
        self.redis = self._redis()
        wait_for_redis(self.redis)
        self._run(
            [
                str(BIN / "gunicorn"), "-k", "gevent", "-w", "1", "--keep-alive", "75", "--worker-connections", "10000",
                "--log-level", "warning", "--no-control-socket", "-b", f"127.0.0.1:{self.port}",
                "bench.rivals.falcon_app:app",
            ],
            REDIS_PORT=str(self.redis),
        )  # fmt: skip
        self._await()

    def counted(self) -> int:
        return redis_count(self.redis, PAGE)


class Talk(System):
    """uWSGI and Flask, a synced beanstalkd, and one Consul write for each job."""

    name = "uWSGI, Flask, Consul"
    programs = ("uwsgi", "beanstalkd", "consul")
    packages = ("flask",)
    keeps_alive = False

    def start(self, folder: Path) -> None:
        self._begin(folder)
        self._beanstalkd, self._consul = free_port(), free_port()
        (folder / "jobs").mkdir()
        self._run(["beanstalkd", "-l", "127.0.0.1", "-p", str(self._beanstalkd), "-b", str(folder / "jobs"), "-f", "0"])
        ports = {"http": self._consul, **{name: free_port() for name in ("serf_lan", "serf_wan", "server")}}
        config = folder / "consul.json"
        config.write_text(
            json.dumps(
                {
                    "server": True,
                    "bootstrap": True,
                    "data_dir": str(folder / "consul"),
                    "bind_addr": "127.0.0.1",
                    "ports": {**ports, "dns": -1, "grpc": -1, "https": -1},
                    "disable_update_check": True,
                    "log_level": "warn",
                    "performance": {"raft_multiplier": 1},
                }
            )
        )
        self._run(["consul", "agent", "-config-file", str(config)])
        self._wait_for_leader()
        self._run(
            [
                "uwsgi", "--plugin", "http,python3", "--http", f"127.0.0.1:{self.port}", "--http-keepalive", "--master",
                "--processes", "1", "--disable-logging", "--need-app", "--pythonpath", sysconfig.get_path("purelib"),
                "--pythonpath", str(ROOT), "--module", "bench.rivals.talk_app:app",
            ],
            BEANSTALKD_PORT=str(self._beanstalkd),
        )  # fmt: skip
        self._run([sys.executable, "-m", "bench.rivals.talk_worker", str(self._beanstalkd), str(self._consul)])
        self._await()

    def _wait_for_leader(self) -> None:
        url = f"http://127.0.0.1:{self._consul}/v1/status/leader"
        wait_for_answer(url)
        while urlopen(url).read().strip() == b'""':
            time.sleep(0.1)

    def verdict(self, answered: int, left: int) -> str:
        counted = self.counted()
        if counted < answered:
            return f"{answered:,} answered, of which {counted:,} are counted yet: the worker is behind"
        return super().verdict(answered, left)

    def counted(self) -> int:
        try:
            with urlopen(f"http://127.0.0.1:{self._consul}/v1/kv/{PAGE}?raw") as answer:
                return int(answer.read())
        except OSError:  # not found: none yet
            return 0


class NothingCounted(System):
    """The collector's gunicorn and Falcon, as they are without hitmesh, answering a constant."""

    name = "Falcon, gunicorn, a constant"

    def start(self, folder: Path) -> None:
        self._begin(folder)
        self._run(
            [
                str(BIN / "gunicorn"), "-k", "gevent", "-w", "1", "--keep-alive", "75", "--worker-connections", "10000",
                "--log-level", "warning", "--no-control-socket", "-b", f"127.0.0.1:{self.port}", "bench.constant:app",
            ]
        )  # fmt: skip
        self._await()

    def counted(self) -> int:
        return 0

    def verdict(self, answered: int, left: int) -> str:
        return "nothing is counted"


def redis_count(port: int, page: str) -> int:
    """What a Redis has counted of a page."""
    said = subprocess.run(
        ["redis-cli", "-p", str(port), "GET", page], capture_output=True, text=True, check=True
    ).stdout.strip()
    return int(said or 0)


def wait_for_redis(port: int) -> None:
    """Until it answers."""
    deadline = time.monotonic() + STOP_S
    while (
        "PONG"
        not in subprocess.run(
            ["redis-cli", "-p", str(port), "PING"], capture_output=True, text=True, check=False
        ).stdout
    ):
        if time.monotonic() > deadline:
            raise SystemExit(f"Redis on port {port} doesn't answer")
        time.sleep(0.05)


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(STOP_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()

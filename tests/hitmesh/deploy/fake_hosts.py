"""Hosts in memory, at the place of ssh: what the host program of each would answer, as bytes.

A release does what `behaviour` says of it: "well", "dies", "slow", "never ready", "fails" (1% of
requests).
"""

from __future__ import annotations

import hashlib
import sys
import sysconfig
import time
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec
from msgspec.structs import replace

from hitmesh.cli import restore
from hitmesh.deploy import memory
from hitmesh.deploy.consul_requests import Reply, Request
from hitmesh.deploy.facts import Facts, Running
from hitmesh.deploy.files import File
from hitmesh.deploy.fleet import Fleet, Host
from hitmesh.deploy.memory import Memory
from hitmesh.deploy.paths import program_path
from hitmesh.deploy.remote import RemoteHost
from hitmesh.deploy.render import supervisor
from hitmesh.deploy.ssh import Result, Unreachable
from hitmesh.errors import CommandError
from hitmesh.settings.sqlite import SqliteSettings
from tests.hitmesh.deploy.fake_consul import FakeConsul


class FakeSsh:
    """All hosts of a fleet, at the place of `Ssh`."""

    def __init__(self, fleet: Fleet, release: str, *, settings: Path | None = None) -> None:
        self.fleet = fleet
        self.current = {one.name: release for _, one in fleet.in_order()}
        self.pids = {name: number for number, name in enumerate(self.current, 100)}
        self.files: dict[str, dict[str, str]] = {host.name: {} for host in fleet.hosts}
        self.secrets: dict[str, dict[str, str]] = {host.name: {} for host in fleet.hosts}
        self.releases = {host.name: {release} for host in fleet.hosts}
        self.behaviour: Mapping[str, str] = {}
        self.calls: list[str] = []
        self.asked: list[str] = []  # hitmesh commands
        self.before_call: Callable[[str], None] = lambda call: None
        self.configs: dict[str, str] = {}
        self.seen: Counter[str] = Counter()
        self.stopped: set[str] = set()
        self.has_totals = False  # what a restore finds
        self.looks_first = True  # whether it says so of a mesh that runs, as releases before 0.3 don't
        self.gone = ""  # a host that doesn't answer
        self.requests = 0
        self.python = {host.name: ".".join(map(str, sys.version_info[:3])) for host in fleet.hosts}
        self.reads: dict[str, dict[str, int]] = {}  # what releases that are there say of formats
        self.written = {"wire": 1, "job": 1, "head": 1, "settings": 1}
        self._settings = settings
        self.consul = FakeConsul(fleet.dc, len(fleet.hosts))
        self.loose: list[str] = []
        self.others: dict[str, dict[str, list[str]]] = {}  # programs of other datacenters, by host
        self.programs: list[str] = []  # beside the instances, on every host

    def hosts(self) -> dict[str, RemoteHost]:
        return {host.name: RemoteHost(host, self, self.fleet.dc) for host in self.fleet.hosts}  # type: ignore[arg-type]

    def run(self, host: Host, argv: list[str], *, stdin: bytes | Path = b"", timeout_s: float = 0.0) -> Result:
        known = next((one for one in self.fleet.hosts if one.address == host.address), host)
        host = replace(host, name=known.name)  # whatever it is called
        words = argv[argv.index("--dc") + 2 :]
        call = f"{host.name} {' '.join(words[:3])}"
        self.before_call(call)
        if words[0] not in ("hitmesh", "facts", "read", "logs", "memory", "consul"):
            self.calls.append(call)
        try:
            answer = getattr(self, f"_{words[0]}")(host, words[1:], stdin)
        except CommandError as error:
            return Result(1, b"", msgspec.json.encode({"error": error.message, "hint": error.hint}).decode())
        return Result(0, msgspec.json.encode(answer), "")

    def vanish(self, host: str, at: str) -> None:
        """Have a host not answer from a call on that begins so."""

        def before_call(call: str) -> None:
            if call.startswith(at):
                self.gone = host
            if self.gone and call.startswith(f"{self.gone} "):
                raise Unreachable(f"{host}: it can't be reached")

        self.before_call = before_call

    def _memory(self, _host: Host, words: list[str], stdin: bytes) -> object:
        assert self._settings is not None
        store = SqliteSettings(self._settings)
        try:
            return memory.answer(Memory(store, self.fleet.dc), words[0], msgspec.json.decode(stdin), time.time())
        finally:
            store.close()

    def _facts(self, host: Host, _words: list[str], _stdin: Any) -> Facts:
        wanted = [one.name for one in host.instances]
        had = [one.name for one in self.fleet.host(host.name).instances]
        names = [name for name in had if name in wanted or name not in self.stopped]
        names += [name for name in wanted if name not in {one.name for _, one in self.fleet.in_order()}]  # new ones
        return Facts(
            python=self.python[host.name], platform=sysconfig.get_platform().replace("-", "_"), system="0.2.0", clock=time.time(), free_bytes=10**10,
            configs=self.configs, loose=self.loose,
            files=self._digests(host.name), others=self.others.get(host.name, {}),
            reads=self.reads, releases=sorted(self.releases[host.name]), current={name: id_ for name in names if (id_ := self.current.get(name, ""))},
            programs=[
                *(self._program(name) for name in names if self.current.get(name, "")),
                *(Running(name=name, state="RUNNING", pid=1) for name in self.programs),
            ],
        )  # fmt: skip

    def _program(self, name: str) -> Running:
        is_stopped = name in self.stopped
        return Running(
            name=name, state="STOPPED" if is_stopped else "RUNNING", pid=0 if is_stopped else self.pids[name]
        )

    def _seen(self, host: str, name: str) -> str:
        path = program_path(self.fleet.dc, name)
        return supervisor.seen(File(path=path, text=self.files[host].get(path, "")))

    def _digests(self, host: str) -> dict[str, str]:
        secrets = {f"/etc/hitmesh/keys/{self.fleet.dc}/{name}": text for name, text in self.secrets[host].items()}
        texts = {path: text for path, text in (self.files[host] | secrets).items() if text}
        return {path: hashlib.sha256(text.encode()).hexdigest() for path, text in texts.items()}

    def _read(self, host: Host, _words: list[str], stdin: bytes) -> dict[str, str]:
        return {
            path: self.files[host.name][path] for path in msgspec.json.decode(stdin) if path in self.files[host.name]
        }

    def _write(self, host: Host, _words: list[str], stdin: bytes) -> dict[str, list[str]]:
        files = msgspec.json.decode(stdin, type=list[File])
        changed = [file.path for file in files if self.files[host.name].get(file.path) != file.text]
        self.files[host.name].update({file.path: file.text for file in files})
        return {"changed": changed}

    def _secret(self, host: Host, words: list[str], stdin: bytes) -> dict[str, list[str]]:
        name = "/".join(words)
        is_there = self.secrets[host.name].get(name) == stdin.decode()
        self.secrets[host.name][name] = stdin.decode()
        return {"changed": [] if is_there else [name]}

    def _consul(self, host: Host, _words: list[str], stdin: bytes) -> list[Reply]:
        requests = msgspec.json.decode(stdin, type=list[Request])
        return [self.consul.answer(host.name, request) for request in requests]

    def _receive(self, host: Host, words: list[str], _stdin: Any) -> dict[str, str]:
        self.releases[host.name].add(words[0])
        return {}

    def _switch(self, _host: Host, words: list[str], _stdin: Any) -> dict[str, str]:
        was, self.current[words[0]] = self.current[words[0]], words[1]
        return {"was": was}

    def _restart(self, host: Host, words: list[str], _stdin: Any) -> dict[str, Any]:
        self.configs[words[0]] = self._seen(host.name, words[0])
        self.pids[words[0]] = self.pids.get(words[0], 0) + 1000
        self.stopped.discard(words[0])
        dies = self._does(words[0]) == "dies"
        return {
            "state": "BACKOFF" if dies else "RUNNING",
            "pid": self.pids[words[0]],
            "why": "ended with 1" if dies else "",
        }

    def _start(self, host: Host, words: list[str], _stdin: Any) -> dict[str, Any]:
        return self._restart(host, words, _stdin)

    def _stop(self, _host: Host, words: list[str], _stdin: Any) -> dict[str, Any]:
        self.stopped.add(words[0])
        return {"state": "STOPPED", "pid": 0}

    def _logs(self, _host: Host, words: list[str], _stdin: Any) -> dict[str, list[str]]:
        return {"lines": [f"the last words of {words[0]}"]}

    def _forget(self, host: Host, words: list[str], _stdin: Any) -> dict[str, str]:
        self.releases[host.name].discard(words[0])
        return {}

    def _hitmesh(self, host: Host, words: list[str], _stdin: Any) -> object:
        self.asked.append(words[0])
        if words[0] == "ready":
            lacking = [f"{name} (/health: 503)" for name in self.current if self._does(name) == "never ready"]
            lacking += [one.name for host, one in self.fleet.in_order() if host.name == self.gone]
            return {self.fleet.dc: lacking} if lacking else {}
        if words[0] == "datacenter":
            self.calls.append(f"{host.name} hitmesh {' '.join(words)}")
            return ""
        if words[0] == "restore":
            self.calls.append(f"{host.name} hitmesh {' '.join(words)}")
            counting = {name for name in self.current if name.rpartition("-")[0] in restore.COUNTING} - self.stopped
            if counting and not (self.has_totals and self.looks_first):
                raise CommandError(f"{restore.COUNTS}: {', '.join(counting)} run")
            if self.has_totals:
                raise CommandError(f"{self.fleet.dc} has totals")
            return ""
        if words[0] == "formats":
            return {"written": self.written}
        if words[0] == "audit":
            return {"problems": []}
        self.requests += 1000
        fails = any(self._does(name) == "fails" for name in self.current)
        load = {"requests": self.requests, "failed": self.requests / 100 if fails else 0}
        return [
            {"name": one.name, "role": one.role, "state": self._state(one.name), "pid": self.pids[one.name] + 1,
             "supervisor_pid": self.pids[one.name], "load": load if one.role == "balancer" else {}}
            for _, one in self.fleet.in_order()
        ]  # fmt: skip

    def _state(self, name: str) -> str:
        """A slow one is up when it was asked for the third time since its start."""
        starting = f"{name} {self.pids[name]}"
        self.seen[starting] += 1
        return "starting" if self._does(name) == "slow" and self.seen[starting] < 3 else "up"

    def _does(self, name: str) -> str:
        return self.behaviour.get(self.current.get(name, ""), "well")

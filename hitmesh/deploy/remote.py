"""The host program as the operator's machine asks it: one method for each of its commands.

Owns what goes over the wire to `hitmesh-host`; decides nothing.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, TypeVar

import msgspec
from msgspec import Struct

from hitmesh.deploy.consul_requests import Replies, Reply, Request
from hitmesh.deploy.facts import Facts, off_s
from hitmesh.deploy.files import File
from hitmesh.deploy.fleet import Host
from hitmesh.deploy.paths import HOST_PROGRAM, SYSTEM
from hitmesh.deploy.ssh import TIMEOUT_S, Result, Ssh
from hitmesh.errors import CommandError

FACTS_S: Final = 30.0
OLDEST: Final = "3.11 or later"
# As the deploy user: "gone" when there is an environment whose Python isn't, "VERSION alone" when it finds no hitmesh.
ASK_PYTHON: Final = f"""\
test -L {SYSTEM}/bin/python || exit 0
{SYSTEM}/bin/python -I -c 'import sys; print(sys.version.split()[0])' 2>/dev/null || {{ echo gone; exit 0; }}
{SYSTEM}/bin/python -I -c 'import hitmesh' 2>/dev/null || echo alone
"""
NO_SUDO: Final = ("a password is required", "not in the sudoers", "may not run sudo", "not allowed to execute")

Answer = TypeVar("Answer")


class NoHostProgram(CommandError):
    """A host that ssh reaches, and where the host program doesn't run."""


class Restarted(Struct, frozen=True):
    """What supervisord says of a program after it was told to start or stop."""

    state: str
    pid: int
    why: str = ""


class RemoteHost:
    """One host, through its host program."""

    def __init__(self, host: Host, ssh: Ssh, dc: str) -> None:
        self.host, self._ssh, self._dc = host, ssh, dc

    @property
    def name(self) -> str:
        """The host's name."""
        return self.host.name

    def facts(self) -> Facts:
        """What it says of itself."""
        asked = time.time()
        facts = self._ask(Facts, ["facts"], timeout_s=FACTS_S)
        return msgspec.structs.replace(facts, off_s=off_s(facts.clock, asked, time.time()))

    def texts(self, paths: Sequence[str]) -> dict[str, str]:
        """What stands in these rendered files, of those that are there."""
        return self._ask(dict[str, str], ["read"], stdin=msgspec.json.encode(list(paths)))

    def receive(self, id_: str, tar: Path) -> None:
        """Take a release in; done at once when it is there."""
        self._ask(object, ["receive", id_], stdin=tar)

    def forget(self, id_: str) -> None:
        """Remove a release that nothing runs."""
        self._ask(object, ["forget", id_])

    def write(self, files: Sequence[File]) -> list[str]:
        """Write rendered files, and tell whoever reads them; which were changed."""
        answer = self._ask(dict[str, list[str]], ["write"], stdin=msgspec.json.encode(list(files)))
        return answer["changed"]

    def memory(self, command: str, given: object = None) -> Any:
        """Ask the datacenter's memory of deploys (`hitmesh.deploy.memory`); what it answers."""
        return self._ask(object, ["memory", command], stdin=msgspec.json.encode(given or {}))

    def switch(self, instance: str, id_: str) -> None:
        """Have an instance run this release from its next start."""
        self._ask(object, ["switch", instance, id_])

    def restart(self, instance: str) -> Restarted:
        """Drain and start an instance anew."""
        return self._ask(Restarted, ["restart", instance])

    def start(self, instance: str) -> Restarted:
        """Start one that is stopped."""
        return self._ask(Restarted, ["start", instance])

    def stop(self, instance: str) -> Restarted:
        """Drain and stop one."""
        return self._ask(Restarted, ["stop", instance])

    def logs(self, instance: str, lines: int) -> list[str]:
        """The last lines that it wrote."""
        answer = self._ask(dict[str, list[str]], ["logs", instance, str(lines)])
        return answer["lines"]

    def secret(self, role: str, name: str, text: str) -> list[str]:
        """Give a role's user a secret; which file that changed."""
        return self._ask(dict[str, list[str]], ["secret", role, name], stdin=text.encode())["changed"]

    def consul(self, requests: Sequence[Request]) -> Replies:
        """What its own Consul answers to each of these."""
        return self._ask(list[Reply], ["consul"], stdin=msgspec.json.encode(list(requests)))

    def hitmesh(self, *args: str, stdin: bytes = b"", timeout_s: float = 60.0) -> Result:
        """Run a hitmesh command there."""
        return self._ssh.run(self.host, self._sudo(["hitmesh", *args]), stdin=stdin, timeout_s=timeout_s)

    def hitmesh_command(self, *args: str) -> list[str]:
        """The command that runs a hitmesh command there, on this terminal."""
        return self._ssh.command(self.host, self._sudo(["hitmesh", *args]), terminal=sys.stdin.isatty())

    def _python_trouble(self) -> str:
        """What is wrong with the Python that the host program needs; empty when nothing is, or no host program is there."""
        done = self._ssh.run(self.host, ["sh", "-c", ASK_PYTHON], timeout_s=FACTS_S)
        said = done.out.decode(errors="replace").split()
        match said:
            case ["gone"]:
                return "its Python is gone, and hitmesh there can't run without it"
            case [version, "alone"]:
                return f"its Python is {version}, another one than hitmesh there was installed with"
        return ""

    def _sudo(self, argv: list[str]) -> list[str]:
        return ["sudo", "-n", HOST_PROGRAM, "--dc", self._dc, *argv]

    def _ask(
        self, type_: type[Answer], argv: list[str], *, stdin: bytes | Path = b"", timeout_s: float = TIMEOUT_S
    ) -> Answer:
        result = self._ssh.run(self.host, self._sudo(argv), stdin=stdin, timeout_s=timeout_s)
        if result.status:
            raise self._refused(argv, result)
        try:
            return msgspec.json.decode(result.out, type=type_)
        except msgspec.MsgspecError as error:
            raise CommandError(f"{self.name}: hitmesh-host {argv[0]} answers what can't be read: {error}") from error

    def _refused(self, argv: list[str], result: Result) -> CommandError:
        last = result.err.splitlines()[-1] if result.err else ""
        try:
            said = msgspec.json.decode(last, type=dict[str, str])
            if said["error"].startswith("hitmesh-host --dc"):
                return CommandError(
                    f"{self.name}: its host program is of an older hitmesh, and knows no {argv[0]!r}",
                    hint="`fab bootstrap` brings this one's",
                )
            return CommandError(f"{self.name}: {said['error']}", hint=said.get("hint", ""))
        except (msgspec.MsgspecError, KeyError):
            pass
        if any(words in result.err for words in NO_SUDO):
            return NoHostProgram(
                f"{self.name}: the deploy user may not run {HOST_PROGRAM}", hint="`fab bootstrap` sees to it"
            )
        if reason := self._python_trouble():
            return NoHostProgram(f"{self.name}: {reason}", hint=f"install Python {OLDEST}, then `fab bootstrap`")
        if "command not found" in result.err or "No such file" in result.err:
            return NoHostProgram(f"{self.name}: there is no {HOST_PROGRAM}", hint="`fab bootstrap` puts it there")
        return NoHostProgram(f"{self.name}: hitmesh-host {argv[0]} ended with {result.status}: {last or 'no word'}")

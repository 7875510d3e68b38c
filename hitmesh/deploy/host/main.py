"""`hitmesh-host --dc DATACENTER COMMAND ...`: its commands, what they are given on stdin, and what they print.

One JSON document on stdout; an error is `{"error": ..., "hint": ...}` in the last line of stderr, and status 1.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import IO, Any, Final, NoReturn

import msgspec

from hitmesh.deploy.consul_requests import Request
from hitmesh.deploy.files import File
from hitmesh.deploy.host import consul, facts, writing
from hitmesh.deploy.host.machine import Machine, ids
from hitmesh.deploy.host.programs import Programs
from hitmesh.deploy.host.releases import ENVIRONMENT, Releases
from hitmesh.deploy.host.rules import MAX_SECRET_BYTES, check_dc, secret_place
from hitmesh.deploy.paths import ETC, RELEASES, STATE, SYSTEM, config_path, user_of
from hitmesh.errors import CommandError, HitmeshError

FAILED = 1
MAX_JSON_BYTES: Final = 32 * 1024 * 1024  # a list of keys, and some hundred small files


class HostProgram:
    """The commands, each on a machine and for a datacenter."""

    def __init__(self, machine: Machine, dc: str, stdin: IO[bytes]) -> None:
        check_dc(dc)
        self._machine, self._dc, self._stdin = machine, dc, stdin
        self._releases = Releases(machine)
        self._programs = Programs(machine, dc)

    def facts(self) -> object:
        return facts.gather(self._machine, self._releases, self._programs, self._dc)

    def read(self) -> object:
        return facts.texts(self._machine, self._dc, self._json(list[str]))

    def receive(self, id_: str) -> object:
        with self._machine.alone():
            self._releases.receive(id_, self._stdin)
        return {"id": id_}

    def forget(self, id_: str) -> object:
        with self._machine.alone():
            self._releases.forget(id_)
        return {"id": id_}

    def write(self) -> object:
        files = self._json(list[File])
        with self._machine.alone():
            return {"changed": writing.write(self._machine, self._programs, self._dc, files)}

    def switch(self, instance: str, id_: str) -> object:
        with self._machine.alone():
            return {"was": self._releases.switch(instance, id_)}

    def start(self, instance: str) -> object:
        with self._machine.alone():
            return self._programs.start(instance)

    def stop(self, instance: str) -> object:
        with self._machine.alone():
            return self._programs.stop(instance)

    def restart(self, instance: str) -> object:
        with self._machine.alone():
            return self._programs.restart(instance)

    def logs(self, instance: str, count: str) -> object:
        if not count.isdecimal() or len(count) > 9:
            raise CommandError(f"{count[:20]!r} is no number of lines")
        return {"lines": self._programs.log(instance, int(count))}

    def secret(self, role: str, name: str) -> object:
        path = secret_place(self._dc, role, name)
        content = self._stdin.read(MAX_SECRET_BYTES + 1)
        if not content or len(content) > MAX_SECRET_BYTES:
            raise CommandError(f"a secret has 1 to {MAX_SECRET_BYTES} bytes")
        with self._machine.alone():
            is_there = self._machine.is_as(path, content, user_of(role), 0o600)
            if not is_there:
                self._machine.replace(path, content, user_of(role), 0o600)
        return {"changed": [] if is_there else [path]}

    def consul(self) -> object:
        return consul.ask(self._machine, self._json(list[Request]))

    def hitmesh(self, *arguments: str) -> NoReturn:
        """Become that command, as the operator's user, of the newest release that anything here runs."""
        current = set(self._releases.current().values())
        newest = next((id_ for id_ in reversed(self._releases.ids()) if id_ in current), None)
        self._become(f"{RELEASES}/{newest}" if newest else SYSTEM, ["hitmesh", *arguments])

    def memory(self, command: str) -> NoReturn:
        """Become what asks the datacenter's memory of deploys."""
        self._become(SYSTEM, ["hitmesh.deploy.memory", config_path(self._dc), STATE, command])

    def _become(self, folder: str, words: Sequence[str]) -> NoReturn:
        """Go on as a module of an environment, as the operator's user."""
        python = self._machine.at(folder) / "bin" / "python"
        os.chdir(self._machine.at(ETC))  # where `var` and `keys`, which commands look for, lead to this host's
        if self._machine.is_real:
            user = user_of("operator")
            uid, gid = ids(user)
            os.initgroups(user, gid)
            os.setgid(gid)
            os.setuid(uid)
        environment = {**ENVIRONMENT, "PYTHONSAFEPATH": "1", "HOME": "/"}
        environment["TERM"] = os.environ.get("TERM", "dumb")
        os.execve(python, [str(python), "-m", *words], environment)  # noqa: S606 - words, and no shell

    def _json(self, type_: Any) -> Any:
        content = self._stdin.read(MAX_JSON_BYTES + 1)
        if len(content) > MAX_JSON_BYTES:
            raise CommandError(f"more than {MAX_JSON_BYTES} bytes of JSON")
        try:
            return msgspec.json.decode(content, type=type_)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise CommandError(f"what is given isn't what is read here: {error}") from error


# How many words each command takes.
COMMANDS: Final[Mapping[str, int]] = {
    "facts": 0, "read": 0, "write": 0, "receive": 1, "forget": 1, "switch": 2,
    "start": 1, "stop": 1, "restart": 1, "memory": 1, "logs": 2, "secret": 2,
    "consul": 0,
}  # fmt: skip


def answer(arguments: Sequence[str], machine: Machine, stdin: IO[bytes]) -> object:
    """What a command answers. Raises HitmeshError."""
    if len(arguments) < 3 or arguments[0] != "--dc" or arguments[2] not in (*COMMANDS, "hitmesh"):
        raise CommandError(
            "hitmesh-host --dc DATACENTER COMMAND", hint=f"COMMAND is one of {', '.join(COMMANDS)}, hitmesh"
        )
    _, dc, command, *words = arguments
    if command != "hitmesh" and len(words) != COMMANDS[command]:
        raise CommandError(f"{command} takes {COMMANDS[command]} words, and not {len(words)}")
    called: Callable[..., object] = getattr(HostProgram(machine, dc, stdin), command)
    return called(*words)


def main() -> int:
    """Run the command line on this host."""
    os.umask(0o022)  # what it makes is to be read by all users, unless it says otherwise
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupted)
    try:
        said = msgspec.json.encode(answer(sys.argv[1:], Machine(), sys.stdin.buffer))
        sys.stdout.buffer.write(said + b"\n")
        sys.stdout.flush()
    except HitmeshError as error:
        return _told(error.message, error.hint)
    except OSError as error:
        return _told(f"{error.filename or 'failed'}: {error.strerror or error}")
    except KeyboardInterrupt:
        return _told("interrupted: what was begun was undone")
    return 0


def _told(error: str, hint: str = "") -> int:
    print(json.dumps({"error": " ".join(error.split()), "hint": hint}), file=sys.stderr)
    return FAILED


def _interrupted(_number: int, _frame: object) -> NoReturn:
    raise KeyboardInterrupt

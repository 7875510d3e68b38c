"""Commands on a host, by Debian's own ssh. Owns how a host is reached and what its refusals mean; knows no step.

One connection to each host is kept for all commands (ControlMaster): the first costs 0.15 s, each further one 0.02 s.
A host whose key isn't known, or has changed, is refused: whoever adds a host says so with `ssh-keyscan`, or by
logging in once.
"""

from __future__ import annotations

import contextlib
import re
import shlex
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from hitmesh.deploy.fleet import Host
from hitmesh.errors import CommandError

CONNECT_S: Final = 5  # a host that doesn't answer a connection
ALIVE_S: Final = 2  # between questions to a silent one; three without an answer end the connection
SSH_FAILED: Final = 255  # ssh's own exit status
TIMEOUT_S: Final = 300.0  # of a command: a release's environment takes 10 s, on a busy host a minute
MAX_SHOWN_LINES: Final = 3  # of what ssh says

# What ssh says, in its own words, and what is to be done.
_REASONS: Final = (
    (r"HOST IDENTIFICATION HAS CHANGED", "its host key has changed", "if it was set up anew: ssh-keygen -R {at}"),
    (r"Host key verification failed", "its host key isn't known", "log in once by hand, or ssh-keyscan {at} >> ~/.ssh/known_hosts"),
    (r"Permission denied", "{user} isn't let in", "`fab bootstrap` gives {user} your public key"),
    (r"Could not resolve hostname", "its name isn't known", "nodes.{name}.address or .ssh in the datacenter's file"),
    (r"Connection refused", "no sshd answers there", "nodes.{name}.ssh says where it is"),
    (r"timed out|No route to host|Network is unreachable|Host is down", "it can't be reached", "is it up?"),
)  # fmt: skip


class Unreachable(CommandError):
    """A host that ssh doesn't reach. Whether a command that had begun was carried out isn't known."""


class Result(NamedTuple):
    """What a command on a host said."""

    status: int
    out: bytes
    err: str


class Ssh:
    """The way to all hosts, as one user."""

    def __init__(self, folder: Path, user: str, config: Path | None = None) -> None:
        self._user = user
        self._elsewhere: dict[str, str] = {}  # address of a host that is none of the fleet's: as whom
        self._options = [
            *(["-F", str(config)] if config else []),
            *("-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=yes", "-o", f"ConnectTimeout={CONNECT_S}"),
            *("-o", f"ServerAliveInterval={ALIVE_S}", "-o", "ServerAliveCountMax=3"),
            *("-o", "ControlMaster=auto", "-o", f"ControlPath={folder}/%C", "-o", "ControlPersist=60"),
        ]

    def command(self, host: Host, argv: list[str], *, terminal: bool = False) -> list[str]:
        """The command that runs `argv` on a host."""
        address, port = host.ssh
        tty = ["-t"] if terminal else ["-T"]
        return ["ssh", *self._options, *tty, "-p", str(port), "-l", self._user, address, "--", shlex.join(argv)]

    def run(self, host: Host, argv: list[str], *, stdin: bytes | Path = b"", timeout_s: float = TIMEOUT_S) -> Result:
        """Run a command; a path's content is what it is given. Raises Unreachable."""
        given = stdin.read_bytes() if isinstance(stdin, Path) else stdin
        return self._run(self.command(host, argv), given, timeout_s, f"{host.name} ({host.ssh[0]})", self._user)

    def run_at(self, user: str, address: str, argv: Sequence[str], content: bytes, *, timeout_s: float) -> Result:
        """Run a command as another user, on a host that is none of the fleet's. Raises Unreachable."""
        self._elsewhere[address] = user
        command = ["ssh", *self._options, "-T", "-l", user, address, "--", shlex.join(argv)]
        return self._run(command, content, timeout_s, address, user)

    def _run(self, command: list[str], given: bytes, timeout_s: float, where: str, user: str) -> Result:
        try:
            done = subprocess.run(
                command,
                input=given,
                capture_output=True,
                timeout=timeout_s,
                check=False,
                start_new_session=True,  # a Ctrl-C at the terminal is ours, not its
            )
        except subprocess.TimeoutExpired as error:
            raise Unreachable(f"{where}: took longer than {timeout_s:g} s; whether it is done isn't known") from error
        said = done.stderr.decode(errors="replace").strip()
        if done.returncode == SSH_FAILED:
            raise _unreachable(said, where, user)
        return Result(done.returncode, done.stdout, said)

    def public_keys(self, host: Host) -> list[str]:
        """The public keys by which this machine's user logs in there. Raises CommandError when there is none."""
        told = subprocess.run(["ssh", *self._options, "-G", host.ssh[0]], capture_output=True, text=True, check=False)
        files = [
            Path(line.partition(" ")[2]).expanduser()
            for line in told.stdout.splitlines()
            if line.startswith("identityfile ")
        ]
        found = [path.read_text().strip() for file in files if (path := file.with_name(f"{file.name}.pub")).is_file()]
        agent = subprocess.run(["ssh-add", "-L"], capture_output=True, text=True, check=False)
        found += agent.stdout.splitlines() if agent.returncode == 0 else []
        if not found:
            raise CommandError("you have no SSH key", hint="ssh-keygen makes one; its public half goes to the hosts")
        return list(dict.fromkeys(found))

    def close(self, hosts: list[Host]) -> None:
        """End the kept connections."""
        fleet = [["-p", str(port), "-l", self._user, address] for address, port in (host.ssh for host in hosts)]
        others = [["-l", user, address] for address, user in self._elsewhere.items()]
        for at in [*fleet, *others]:
            subprocess.run(["ssh", *self._options, "-O", "exit", *at], capture_output=True, check=False)


def _unreachable(said: str, where: str, user: str) -> Unreachable:
    name, _, address = where.partition(" ")
    values = {"user": user, "name": name, "at": address.strip("()") or name}
    for pattern, what, hint in _REASONS:
        if re.search(pattern, said):
            return Unreachable(f"{where}: {what.format(**values)}", hint=hint.format(**values))
    lines = [line for line in said.splitlines() if line.strip()][-MAX_SHOWN_LINES:]
    return Unreachable(f"{where}: the connection broke: {' / '.join(lines) or 'ssh says nothing'}")


@contextlib.contextmanager
def opened(hosts: list[Host], user: str, config: Path | None = None) -> Iterator[Ssh]:
    """The way to hosts as `user`, whose connections are kept until the end."""
    # Short: a Unix socket's path has at most 107 bytes, and ssh adds 57 of its own.
    with tempfile.TemporaryDirectory(prefix="hm-ssh-") as folder:
        ssh = Ssh(Path(folder), user, config)
        try:
            yield ssh
        finally:
            ssh.close(hosts)

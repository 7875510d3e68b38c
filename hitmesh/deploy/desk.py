"""The operator's side of one datacenter: its file, its hosts, the way to them. Owns no decision and no step.

Everything that a task needs of a datacenter is asked here, so that each task is a few lines.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import difflib
import subprocess
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final, TypeVar

from hitmesh import config as settings
from hitmesh.cli.folder import replace_text
from hitmesh.config import Config
from hitmesh.deploy.facts import Facts
from hitmesh.deploy.files import File
from hitmesh.deploy.fleet import Fleet, Host
from hitmesh.deploy.paths import KEYS
from hitmesh.deploy.remote import NoHostProgram, RemoteHost
from hitmesh.deploy.render import files_for
from hitmesh.deploy.ssh import Ssh, Unreachable, opened
from hitmesh.errors import CommandError, ConfigError
from hitmesh.mesh.keyring import list_path
from hitmesh.mistakes import nearest

AT_ONCE: Final = 16  # hosts that are asked at the same time

Answer = TypeVar("Answer")


class Desk:
    """One datacenter, from the operator's machine."""

    def __init__(
        self, path: Path, fleet: Fleet, ssh: Ssh, tell: Callable[[str], None], text: str | None = None
    ) -> None:
        self.path, self.fleet, self.ssh, self.tell = path, fleet, ssh, tell
        self.text = path.read_text(encoding="utf-8") if text is None else text
        self.hosts = {host.name: RemoteHost(host, ssh, fleet.dc) for host in fleet.hosts}

    @property
    def config(self) -> Config:
        """Of the datacenter."""
        return self.fleet.config

    def with_text(self, text: str) -> Desk:
        """The same, were this the text of its file, which stays as it is. Raises ConfigError."""
        fleet = Fleet.of(settings.loads(text.encode(), path=self.path))
        return Desk(self.path, fleet, self.ssh, self.tell, text)

    def replace_text(self, old: str, new: str) -> None:
        """Put a text in the place of another one in its file. Raises CommandError when something else stands there."""
        path = self.path.resolve()  # a link stays one
        try:
            there, mode = path.read_text(encoding="utf-8"), path.stat().st_mode & 0o777
        except (OSError, UnicodeDecodeError) as error:
            raise CommandError(f"{self.path}: can't be read: {error}") from error
        if there != old:
            raise CommandError(f"{self.path} was changed meanwhile", hint="it stays so; see what is in it")
        replace_text(path, new, mode=mode)

    def host(self, name: str = "") -> RemoteHost:
        """The host of a name, or the first one that runs roles. Raises CommandError."""
        if name:
            return self.hosts[self.fleet.host(name).name]
        return self.hosts[next(host.name for host in self.fleet.hosts if host.instances)]

    def any_host(self) -> RemoteHost:
        """One that answers, of those that run roles. Raises CommandError."""
        reasons = []
        for host in self.fleet.hosts:
            if host.instances:
                try:
                    self.hosts[host.name].facts()
                except CommandError as error:
                    reasons.append(str(error))
                else:
                    return self.hosts[host.name]
        raise CommandError(f"no host of {self.fleet.dc} answers: {'; '.join(reasons)}")

    def memory(self, command: str, given: object = None) -> Any:
        """Ask the datacenter's memory of deploys, of whichever host answers; what it says. Raises CommandError."""
        reasons = []
        for host in self.fleet.hosts:
            if host.instances:
                try:
                    return self.hosts[host.name].memory(command, given)
                except (Unreachable, NoHostProgram) as error:
                    reasons.append(str(error))
        raise CommandError(f"no host of {self.fleet.dc} answers: {'; '.join(reasons)}")

    def facts(self, only: str = "") -> dict[str, Facts]:
        """What all hosts, or one, say of themselves. Raises CommandError, naming each that doesn't answer."""
        wanted = [self.fleet.host(only)] if only else list(self.fleet.hosts)
        found = self.each(wanted, lambda host: host.facts())
        problems = [str(answer) for answer in found.values() if isinstance(answer, CommandError)]
        if problems:
            raise CommandError("; ".join(problems), hint=self._hint(found))
        return {name: answer for name, answer in found.items() if isinstance(answer, Facts)}

    def any_answer(self) -> None:
        """Raise CommandError when none of its hosts answers."""
        found = self.each(self.fleet.hosts, lambda host: host.facts()).values()
        problems = [str(answer) for answer in found if isinstance(answer, CommandError)]
        if len(problems) == len(self.fleet.hosts):
            raise CommandError(f"no host of {self.fleet.dc} answers: {'; '.join(problems)}", hint="nothing was changed")

    def each(self, hosts: Sequence[Host], ask: Callable[[RemoteHost], Answer]) -> dict[str, Answer | CommandError]:
        """What each of these answers, all asked at the same time."""

        def asked(host: Host) -> Answer | CommandError:
            try:
                return ask(self.hosts[host.name])
            except CommandError as error:
                return error

        with concurrent.futures.ThreadPoolExecutor(AT_ONCE) as pool:
            return dict(zip([host.name for host in hosts], pool.map(asked, hosts), strict=True))

    def files(self) -> dict[str, list[File]]:
        """What is to stand in rendered files, by host."""
        shared = []
        if self.config.keys:
            shared.append(File(path=list_path(Path(KEYS)).as_posix(), text=self._key_list()))
        return {host.name: [*files_for(self.fleet, host, self.text), *shared] for host in self.fleet.hosts}

    def differences(self, host: str, files: Sequence[File]) -> Iterator[str]:
        """The changed lines of files as they are to be written on a host."""
        texts = self.hosts[host].texts([file.path for file in files])
        for file in files:
            old, new = texts.get(file.path, ""), file.text
            names = (f"{host}:{file.path}", f"{host}:{file.path} (new)")
            yield from difflib.unified_diff(old.splitlines(), new.splitlines(), *names, lineterm="", n=1)

    def run_terminal(self, *args: str) -> int:
        """Run a hitmesh command on a host, on this terminal; its status."""
        return subprocess.run(self.any_host().hitmesh_command(*args), check=False).returncode

    def _key_list(self) -> str:
        path = list_path(Path(self.config.keys))
        try:
            return path.read_text(encoding="utf-8") if path.exists() else ""  # `make` makes it
        except OSError as error:
            raise CommandError(f"{path}: can't be read: {error.strerror}") from error

    def _hint(self, found: dict[str, Facts | CommandError]) -> str:
        fine = [name for name, answer in found.items() if isinstance(answer, Facts)]
        return (
            f"nothing was changed; only=HOST leaves the others out ({', '.join(fine)} answer)"
            if fine
            else "nothing was changed"
        )


@contextlib.contextmanager
def desk(
    dc: str, folder: Path, tell: Callable[[str], None], *, ssh_config: Path | None = None, user: str = ""
) -> Iterator[Desk]:
    """The desk of a datacenter whose file is in `folder`. Raises CommandError, ConfigError."""
    path = config_of(dc, folder)
    config = settings.load(path)
    if config.name != dc:
        raise ConfigError(f"{path}: it is of {config.name}, not of {dc}")
    check_siblings(config, folder)
    fleet = Fleet.of(config)
    with opened(list(fleet.hosts), user or config.deploy.user, ssh_config) as ssh:
        yield Desk(path, fleet, ssh, tell)


def config_of(dc: str, folder: Path) -> Path:
    """Where a datacenter's file is. Raises CommandError."""
    names = sorted(path.stem for path in folder.glob("*.toml"))
    if dc not in names:  # whatever a system says of such a path
        raise CommandError(f"there is no datacenter {dc:.60} in {folder}; {nearest(dc, names)}")
    return folder / f"{dc}.toml"


def siblings(desk: Desk) -> list[str]:
    """The other datacenters of its mesh whose files are in the same folder."""
    return sorted(path.stem for path in desk.path.parent.glob("*.toml") if path.stem in desk.config.peers)


def check_siblings(config: Config, folder: Path) -> None:
    """Raise ConfigError when the datacenters of a folder contradict each other: they are one mesh."""
    for path in sorted(folder.glob("*.toml")):
        if path.stem not in config.peers:
            continue
        other = settings.load(path)
        settings.check_partitions([config, other])
        if bool(other.keys) != bool(config.keys) and not (other.insecure or config.insecure):
            raise ConfigError(f"{config.name} and {other.name} must both have keys, or neither")

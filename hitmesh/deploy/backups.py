"""Backups of a mesh, from its hosts to the place where they are kept, and back.

What a backup is, and how one is taken and brought back, is `hitmesh backup`'s and `restore`'s; how one is kept is
the vault's (`hitmesh.deploy.vault`), which is spoken to by ssh as `deploy.backup.to` says.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from hitmesh.cli.backup_file import BackupFile, Header
from hitmesh.cli.restore import COUNTS
from hitmesh.deploy import standstill
from hitmesh.deploy.desk import Desk
from hitmesh.deploy.retention import MOMENT, may_go, moment_of
from hitmesh.errors import CommandError, HitmeshError

TAKE_S: Final = 3600.0  # a million pages take some ten minutes from Consul
NEWEST: Final = "newest"


class Vault:
    """The place where a datacenter's backups are kept, as `deploy.backup.to` names it."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        if not desk.config.deploy.backup.to:
            raise CommandError("deploy.backup.to is empty: where are backups to be kept?", hint="USER@HOST:/FOLDER")
        self._user, _, rest = desk.config.deploy.backup.to.partition("@")
        self._address = rest.rpartition(":/")[0].strip("[]")

    def put(self, name: str, content: bytes) -> str:
        """Keep a backup; its SHA-256, as the vault has it."""
        return self._ask(["put", name], content).decode(errors="replace").strip()

    def names(self) -> list[str]:
        """The backups that are there, the oldest first."""
        lines = self._ask(["list"]).decode(errors="replace").splitlines()
        return sorted(name for line in lines if moment_of(name := line.partition(" ")[0]))

    def get(self, name: str) -> bytes:
        """A backup of that name."""
        return self._ask(["get", name])

    def forget(self, name: str) -> None:
        """Keep it no longer."""
        self._ask(["forget", name])

    def _ask(self, words: Sequence[str], content: bytes = b"") -> bytes:
        done = self._desk.ssh.run_at(self._user, self._address, words, content, timeout_s=TAKE_S)
        if done.status:
            raise CommandError(f"{self._user}@{self._address}: {done.err or f'{words[0]} ended with {done.status}'}")
        return done.out


def backup(desk: Desk, vault: Vault) -> None:
    """Take a backup, keep it in the vault, and remove those there that are too old."""
    host = desk.any_host()
    taken = host.hitmesh("backup", "-", timeout_s=TAKE_S)
    if taken.status:
        raise CommandError(f"{host.name}: {taken.err}", hint="nothing was kept")
    name = time.strftime(MOMENT, time.gmtime())
    digest = vault.put(name, taken.out)
    desk.tell(f"{name}: {len(taken.out)} bytes, sha256 {digest}, in {desk.config.deploy.backup.to}")
    for line in taken.err.splitlines():
        desk.tell(f"  {line}")
    wanted = desk.config.deploy.backup
    for old in may_go(vault.names(), daily=wanted.daily, weekly=wanted.weekly, monthly=wanted.monthly):
        vault.forget(old)
        desk.tell(f"{old}: removed, too old")


def drill(desk: Desk, name: str = NEWEST) -> None:
    """Bring a backup of the vault, or a file, back into a mesh of its own on this machine, and compare page by page."""
    with tempfile.TemporaryDirectory() as folder:
        name, content = content_of(desk, name)
        path = Path(folder) / Path(name).name  # which is what the drill calls it
        path.write_bytes(content)
        _read(path, name)
        done = subprocess.run([sys.executable, "-P", "-m", "hitmesh", "drill", str(path)], check=False)
    if done.returncode:
        raise CommandError("the backup isn't what it should be", hint="what differs is said above")


def restore(desk: Desk, others: Sequence[Desk], content: bytes, may_go_on: Callable[[], None]) -> None:
    """Bring a backup back into a mesh whose totals stores are empty: stopped everywhere meanwhile, then started.

    Nobody is stopped before every datacenter was asked whether it is. When it can't be restored after that, whoever ran
    is started again, and nobody else: in a store that was emptied on purpose nobody may begin to count before it has what
    it is to begin with.
    """
    everywhere = [desk, *others]
    for each in everywhere:
        _look(each, content)
    ran = {each.fleet.dc: standstill.running(each) for each in everywhere}
    try:
        for each in everywhere:
            standstill.stop(each)
        for each in everywhere:
            _bring(each, content, "--dry")
        may_go_on()
        for line in _bring(desk, content):
            desk.tell(line)
    except (HitmeshError, KeyboardInterrupt):
        for each in everywhere:
            standstill.start_again(each, ran[each.fleet.dc])
        raise
    left = []
    for each in everywhere:
        try:
            standstill.start(each, may_go_on)
        except HitmeshError as error:
            left.append(str(error))
    if left:
        raise CommandError(f"it is restored, and not all could be started: {'; '.join(left)}")
    for each in everywhere:
        standstill.wait(each)


def _look(desk: Desk, content: bytes) -> None:
    """Raise CommandError for what is in the way there, but for whoever counts."""
    try:
        _bring(desk, content, "--dry")
    except CommandError as error:
        if COUNTS not in error.message:
            raise


def _bring(desk: Desk, content: bytes, *options: str) -> list[str]:
    """Have a host bring it back into its datacenter; what it says of it. Raises CommandError."""
    host = desk.any_host()
    done = host.hitmesh("restore", "-", "--dc", desk.fleet.dc, *options, stdin=content, timeout_s=TAKE_S)
    if done.status:
        reasons = [line.removeprefix("hitmesh: ") for line in done.err.splitlines()]
        raise CommandError(f"{host.name}: {'; '.join(reasons) or f'restore ended with {done.status}'}")
    return [*done.out.decode(errors="replace").splitlines(), *done.err.splitlines()]


def check(desk: Desk, name: str, content: bytes) -> None:
    """Raise CommandError for what isn't a whole backup, or is of a mesh of another size; all of it is read."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "backup"
        path.write_bytes(content)
        header = _read(path, name)
    if header.partitions != desk.config.partitions:
        raise CommandError(
            f"{desk.fleet.dc} has {desk.config.partitions} partitions, and the backup {header.partitions}",
            hint="a mesh keeps its number of partitions",
        )


def _read(path: Path, name: str) -> Header:
    """The header of a backup, all of which was read; `name` is what the operator calls it. Raises CommandError."""
    with BackupFile(path, name) as backup:
        for _ in backup.lines():
            pass
        return backup.header


def content_of(desk: Desk, name: str) -> tuple[str, bytes]:
    """A backup, and its name: of a file, or of the vault by its name, or the newest there. Raises CommandError."""
    path = Path(name)
    if name != NEWEST and moment_of(name) is None:
        try:
            return name, path.read_bytes()
        except OSError as error:
            raise CommandError(
                f"{path}: can't be read: {error.strerror}", hint="a file, a name in the vault, or newest"
            ) from error
    vault = Vault(desk)
    if name == NEWEST:
        names = vault.names()
        if not names:
            raise CommandError(f"there is no backup in {desk.config.deploy.backup.to}", hint="`fab backup` takes one")
        name = names[-1]
    desk.tell(f"{name}, of {desk.config.deploy.backup.to}")
    return name, vault.get(name)

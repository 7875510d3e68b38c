"""The file system of a host: reading and replacing files of an owner, below a root that is / but in tests.

Every folder that is written into is root's, so nobody else can put a link in the way.
"""

from __future__ import annotations

import contextlib
import fcntl
import grp
import hashlib
import os
import pwd
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from hitmesh.deploy.paths import HOME
from hitmesh.errors import CommandError

LOCK_S: Final = 120.0  # that another change of this host is waited for: a release takes half a minute
POLL_S: Final = 0.1
FOLDER_MODE: Final = 0o755


class Machine:
    """A host's files."""

    def __init__(self, root: Path = Path("/")) -> None:
        self._root = root
        self.is_real = root == Path("/")
        """Owners are given only there."""

    def at(self, path: str) -> Path:
        """Where this path is."""
        return self._root / path.lstrip("/")

    def read(self, path: str) -> bytes | None:
        """What is in a file; None when there is none."""
        try:
            return self.at(path).read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return None

    def digest(self, path: str) -> str | None:
        """The SHA-256 of a file, in hex; None when there is none."""
        content = self.read(path)
        return None if content is None else hashlib.sha256(content).hexdigest()

    def is_as(self, path: str, content: bytes, owner: str, mode: int) -> bool:
        """Whether a file is just so."""
        if self.read(path) != content:
            return False
        found = self.at(path).stat()
        return found.st_mode & 0o7777 == mode and (not self.is_real or (found.st_uid, found.st_gid) == ids(owner))

    def replace(self, path: str, content: bytes, owner: str, mode: int) -> None:
        """Write a file so that everybody finds the old one or the new one, whole, and nobody else what is his."""
        place = self.at(path)
        new = place.with_name(f".{place.name}.new")
        self.make_folder(str(Path(path).parent))
        new.unlink(missing_ok=True)
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(content)
                file.flush()
                if self.is_real:
                    os.fchown(descriptor, *ids(owner))
                os.fchmod(descriptor, mode)
                os.fsync(descriptor)
            new.replace(place)
        except OSError:
            new.unlink(missing_ok=True)
            raise

    def remove(self, path: str) -> None:
        """Remove a file, if it is there."""
        self.at(path).unlink(missing_ok=True)

    def make_folder(self, path: str, owner: str = "root", mode: int = FOLDER_MODE) -> None:
        """Make a folder, and those above it, if it isn't there."""
        place = self.at(path)
        if place.is_dir():
            return
        if place.parent != place:
            self.make_folder(str(Path(path).parent))
        place.mkdir(mode=0o700)
        if self.is_real:
            os.chown(place, *ids(owner))
        place.chmod(mode)

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """Nobody else changes this host meanwhile. Raises CommandError."""
        self.make_folder(HOME)
        deadline = time.monotonic() + LOCK_S
        with self.at(f"{HOME}/.lock").open("wb") as lock:
            while True:
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError as error:
                    if time.monotonic() > deadline:
                        raise CommandError("somebody else changes this host", hint="wait for its end") from error
                    time.sleep(POLL_S)
            yield


def ids(user: str) -> tuple[int, int]:
    """The ids of a user, and of the group of its name. Raises CommandError."""
    try:
        return pwd.getpwnam(user).pw_uid, grp.getgrnam(user).gr_gid
    except KeyError as error:
        raise CommandError(f"there is no user {user}", hint="`fab bootstrap` makes it") from error

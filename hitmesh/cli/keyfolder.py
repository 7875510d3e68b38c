"""The folder of keys as commands change it: new keys, lines of the list. Roles only read it (hitmesh.mesh.keyring).

Whatever is written is written whole, and a secret is on the disk before the list says that it is somebody's. No
second command changes the folder at the same time.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Final

from hitmesh.cli.folder import replace_text
from hitmesh.config import ROLES, Config
from hitmesh.errors import CommandError, ConfigError
from hitmesh.mesh.keyring import Pair, list_path, new_pair, pair_text, read_pair, secret_path
from hitmesh.state.keylist import OPERATOR, KeyList, Peer, line_of, parse_list, words_of

HEADER: Final = (
    "# Whose each public key is: KEY DATACENTER ROLE NAME. Copy this file to every host of the mesh, and nothing else\n"
    "# of this folder but the secret keys of those who run there. A running mesh sees each change within a second.\n"
)
READABLE: Final = 0o644
SECRET: Final = 0o600
FOLDER_MODE: Final = 0o755


def peers_of(config: Config) -> list[Peer]:
    """Everybody in a datacenter who needs a key: its configured instances, those that a scaler may start, and its operator."""
    instances = [
        Peer(config.name, role, one.name) for role in ROLES for one in (*config.instances(role), *config.spares(role))
    ]
    return [*instances, Peer(config.name, OPERATOR, OPERATOR)]


def make_missing(folder: Path, peers: Iterable[Peer], *, is_shared: bool = False) -> list[Peer]:
    """Make a key for each of these who has none in this folder; those for whom one was made. Raises CommandError.

    A folder that is new is its owner's alone, unless other users are to read the list.
    """
    if is_shared and not folder.exists():
        _make(folder, FOLDER_MODE)
        replace_text(list_path(folder), HEADER, mode=READABLE)
    made = []
    with alone(folder):
        lines = _Lines(folder)
        for peer in peers:
            if lines.keys.keys_of(peer):
                continue  # it is here, or somewhere else
            # A secret that the list doesn't know was revoked, and never comes back.
            pair = new_pair()
            write_secret(secret_path(folder, peer), peer, pair)
            lines.add(pair.public.hex(), peer)
            made.append(peer)
        lines.write()
    return made


def make_own(config: Config, role: str, name: str) -> None:
    """Make the key of an instance that is started by hand, in a mesh of this user's own, such as `hitmesh up`'s.

    Where the list isn't ours to change nothing is done: whoever has no key then is told so.
    """
    peer = Peer(config.name, role, name)
    if not config.keys or secret_path(Path(config.keys), peer).exists() or not os.access(config.keys, os.W_OK):
        return
    if os.access(list_path(Path(config.keys)), os.W_OK):
        make_missing(Path(config.keys), [peer])


def add(folder: Path, peer: Peer, key: str) -> None:
    """Put a public key that was made elsewhere on the list. Raises CommandError."""
    with alone(folder):
        lines = _Lines(folder)
        lines.add(key, peer)
        lines.write()


def revoke(folder: Path, is_meant: Callable[[str, Peer], bool]) -> list[tuple[str, Peer]]:
    """Take keys off the list; which they were. Their secret files stay. Raises CommandError."""
    with alone(folder):
        lines = _Lines(folder)
        gone = [(key, peer) for key, peer in lines.keys.items() if is_meant(key, peer)]
        if len(gone) == len(lines.keys):
            raise CommandError(
                "the list would have no key left, and a list without keys changes nothing", hint="stop the mesh instead"
            )
        lines.remove({key for key, _ in gone})
        lines.write()
    return gone


def make_next(folder: Path, peers: Iterable[Peer]) -> None:
    """Make each of these another key, which is on the list beside its own, and not in use yet. Raises CommandError.

    Whoever has two on the list already is in the midst of a change, and gets no third.
    """
    with alone(folder):
        lines = _Lines(folder)
        for peer in peers:
            path = _next_path(folder, peer)
            if not path.exists():
                if len(lines.keys.keys_of(peer)) > 1:
                    continue
                write_secret(path, peer, new_pair())
            key = read_pair(path).public.hex()
            if key not in lines.keys:
                lines.add(key, peer)
        lines.write()


def use_next(folder: Path, peer: Peer) -> None:
    """Have the next key of `peer` be the one that it starts with. Raises CommandError."""
    with alone(folder):
        path = _next_path(folder, peer)
        if not path.exists():
            return
        if read_pair(path).public.hex() not in _Lines(folder).keys.keys_of(peer):
            raise CommandError(f"the next key of {peer} isn't on the list", hint="`--step add` puts it there")
        path.replace(secret_path(folder, peer))


def drop_former(folder: Path, peers: Iterable[Peer]) -> list[tuple[str, Peer]]:
    """Take all keys of these off the list that they don't start with; which they were. Raises CommandError."""
    current = {peer: read_pair(secret_path(folder, peer)).public.hex() for peer in peers}
    known = _Lines(folder).keys
    for peer, key in current.items():
        if key not in known.keys_of(peer):
            raise CommandError(f"the key that {peer} starts with isn't on the list", hint="without one it isn't heard")
        if _next_path(folder, peer).exists():
            raise CommandError(f"the next key of {peer} isn't in use yet", hint="`--step use` comes first")
    return revoke(folder, lambda key, peer: peer in current and key != current[peer])


@contextlib.contextmanager
def rotating(folder: Path) -> Iterator[None]:
    """No second command changes keys for others meanwhile. Raises CommandError."""
    with (folder / ".rotate").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise CommandError(
                f"another `hitmesh keys rotate` is at work in {folder}", hint="wait for its end"
            ) from error
        yield


def _next_path(folder: Path, peer: Peer) -> Path:
    path = secret_path(folder, peer)
    return path.with_name(f".{path.name}.next")


def write_secret(path: Path, peer: Peer, pair: Pair) -> None:
    """Write a secret key so that nobody else can read it, at no time. Raises CommandError."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CommandError(f"{error.filename}: can't be made: {error.strerror}") from error
    replace_text(path, pair_text(peer, pair))


class _Lines:
    """The list's lines, with their comments."""

    def __init__(self, folder: Path) -> None:
        self._path = list_path(folder)
        try:
            self._text = self._path.read_text(encoding="utf-8")
        except FileNotFoundError:
            self._text = ""
        except (OSError, UnicodeDecodeError) as error:
            raise CommandError(f"{self._path}: can't be read: {error}") from error
        self._before = self._text
        self._text = self._text or HEADER
        self.keys = KeyList()
        self._parse()

    def add(self, key: str, peer: Peer) -> None:
        end = "" if self._text.endswith("\n") else "\n"
        self._text += f"{end}{line_of(key, peer)}\n"
        self._parse()

    def remove(self, keys: set[str]) -> None:
        kept = [line for line in self._text.splitlines() if words_of(line)[:1] not in [[k] for k in keys]]
        self._text = "\n".join(kept) + "\n"
        self._parse()

    def write(self) -> None:
        if self._text != self._before:
            mode = stat.S_IMODE(self._path.stat().st_mode) if self._path.exists() else SECRET
            replace_text(self._path, self._text, mode=mode)

    def _parse(self) -> None:
        try:
            self.keys = parse_list(self._text, source=str(self._path))
        except ConfigError as error:
            raise CommandError(str(error)) from error


def _make(folder: Path, mode: int) -> None:
    try:
        folder.mkdir(parents=True)
        folder.chmod(mode)
    except OSError as error:
        raise CommandError(f"{error.filename or folder}: can't be made: {error.strerror}") from error


@contextlib.contextmanager
def alone(folder: Path) -> Iterator[None]:
    """No second command changes the folder meanwhile. Raises CommandError."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / ".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
    except OSError as error:
        raise CommandError(f"{error.filename or folder}: can't be written: {error.strerror}") from error

"""A process's own key, and the list of everybody's, from the folder of keys. Owns their files.

FOLDER/allowed              the list (hitmesh.state.keylist): whose each public key is; anybody may read it
FOLDER/DC/ROLE/NAME         the secret key of one instance: its user's alone, mode 600
"""

from __future__ import annotations

import binascii
import logging
import math
import os
import stat
import time
from pathlib import Path
from typing import Final, NamedTuple

import zmq
import zmq.utils.z85

from hitmesh.config import Config, moment
from hitmesh.errors import ConfigError
from hitmesh.hub.blocking import call_blocking
from hitmesh.secrets import read_secret
from hitmesh.state.keylist import KeyList, Peer, parse_list

LIST_NAME: Final = "allowed"
MAX_LIST_BYTES: Final = 16 * 1024 * 1024
SHORT: Final = 12  # digits of a key that people are shown

log = logging.getLogger("hitmesh.mesh")


class Pair(NamedTuple):
    """A CURVE key pair, 32 bytes each."""

    public: bytes
    secret: bytes


class Keyring:
    """Who this process is, and whom it knows. `keys` is replaced by `look` when the file has changed."""

    def __init__(self, me: Peer, pair: Pair, path: Path, *, is_served: bool = True, plain_until_s: float = 0.0) -> None:
        """`is_served`: whether our own sockets want keys; `plain_until_s`: until when others' needn't, since 1970."""
        self.is_served = is_served
        self._plain_until_s = plain_until_s
        self.me = me
        self.pair = pair
        self.key = pair.public.hex()
        """Our own public key."""
        self._path = path
        self._seen: tuple[int, int, int] | None = None
        self._told = ""
        self.keys = KeyList()
        self._take(_read_list(path))

    @property
    def takes_plain(self) -> bool:
        """Whether those who have no keys yet are spoken to: while a mesh gets its keys."""
        return time.time() < self._plain_until_s

    def look(self) -> bool:
        """Whether there is another list than before. One that can't be read changes nothing, and is told once."""
        try:
            found = call_blocking(lambda: _stamp(self._path))
            if found == self._seen:
                return False
            self._take(call_blocking(lambda: _read_list(self._path)))
        except ConfigError as error:
            self._tell(f"the list of keys stays as it was: {error}")
            return False
        return True

    def _take(self, read: tuple[tuple[int, int, int], KeyList]) -> None:
        self._seen, self.keys = read
        mine = self.key in self.keys.keys_of(self.me)
        self._tell(
            "" if mine else f"{self._path} doesn't have our key {self.key[:SHORT]} for {self.me}: nobody hears us"
        )

    def _tell(self, words: str) -> None:
        if words and words != self._told:
            log.error("%s", words)
        self._told = words


def open_keyring(config: Config, role: str, name: str) -> Keyring | None:
    """The keys of one of a datacenter's; None where the mesh has none. Raises ConfigError, which says what would help."""
    if not config.keys:
        return None
    folder, me = Path(config.keys), Peer(config.name, role, name)
    return Keyring(
        me,
        read_pair(secret_path(folder, me)),
        list_path(folder),
        is_served=not config.insecure,
        plain_until_s=math.inf if config.insecure else moment(config.insecure_until),
    )


def list_path(folder: Path) -> Path:
    """Where the list is."""
    return folder / LIST_NAME


def secret_path(folder: Path, peer: Peer) -> Path:
    """Where the secret key of `peer` is."""
    return folder.joinpath(*peer)


def read_list(folder: Path) -> KeyList:
    """The list as it is now. Raises ConfigError."""
    return _read_list(list_path(folder))[1]


def read_pair(path: Path) -> Pair:
    """The key pair in a file. Raises ConfigError, also when others could read it."""
    if not path.exists():
        raise ConfigError(f"{path}: there is no such key", hint="copy it here, or `hitmesh keys add` makes one")
    text = read_secret(path).decode("ascii", "replace")
    words = [line.split() for line in text.splitlines() if line.strip() and not line.startswith("#")]
    try:
        found = {name: binascii.unhexlify(value) for name, value in words}
        pair = Pair(found["public"], found["secret"])
        if len(found) != 2 or public_of(pair.secret) != pair.public:
            raise ValueError
    except (ValueError, KeyError) as error:  # without what it says: that may be a secret
        raise ConfigError(f"{path}: holds no key pair: a line `public` and a line `secret`, of one pair") from error
    return pair


def new_pair() -> Pair:
    """A key pair that nobody has."""
    public, secret = zmq.curve_keypair()
    return Pair(zmq.utils.z85.decode(public), zmq.utils.z85.decode(secret))


def public_of(secret: bytes) -> bytes:
    """The public key to a secret one. Raises ValueError."""
    if len(secret) != 32:
        raise ValueError("a key has 32 bytes")
    return bytes(zmq.utils.z85.decode(zmq.curve_public(zmq.utils.z85.encode(secret))))


def pair_text(peer: Peer, pair: Pair) -> str:
    """What the file of a secret key says."""
    return (
        f"# The secret key of {peer}: whoever can read this can speak in its name.\n"
        f"public {pair.public.hex()}\nsecret {pair.secret.hex()}\n"
    )


def _stamp(path: Path) -> tuple[int, int, int]:
    try:
        found = path.stat()
    except OSError as error:
        raise ConfigError(f"{path}: can't be read: {error.strerror}") from error
    return found.st_ino, found.st_size, found.st_mtime_ns


def _read_list(path: Path) -> tuple[tuple[int, int, int], KeyList]:
    stamp = _stamp(path)
    try:
        # Not to wait for whoever may write into a pipe of that name.
        with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise ConfigError(f"{path}: is not a file")
            data = file.read(MAX_LIST_BYTES + 1)
    except OSError as error:
        raise ConfigError(f"{path}: can't be read: {error.strerror}") from error
    if len(data) > MAX_LIST_BYTES:
        raise ConfigError(f"{path}: has more than {MAX_LIST_BYTES} bytes")
    keys = parse_list(data.decode("utf-8", "replace"), source=str(path))
    if not len(keys):
        raise ConfigError(f"{path}: has no keys, not even ours: it may just be being written")
    return stamp, keys

"""The list of a mesh's keys: which public key is whose. Pure; files are `hitmesh.mesh.keyring`'s.

A line is `KEY DATACENTER ROLE NAME`; what follows a # is for people. A role that 0.2.0 doesn't know, which would refuse
the whole list for it, stands behind a `#+`, which is a comment there. Somebody may have several keys, while one takes
the other's place; a key is one instance's.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple

from hitmesh.config import ROLES
from hitmesh.errors import ConfigError
from hitmesh.mistakes import nearest
from hitmesh.protocol.names import is_key, is_name

OPERATOR: Final = "operator"  # whoever runs commands
KEY_ROLES: Final = (*ROLES, OPERATOR)
LATER_ROLES: Final = ("recorder", "scaler")  # that 0.2.0 doesn't know
LATER: Final = "#+"  # how their lines begin
MAX_KEYS: Final = 100_000  # 64 datacenters of 512 instances a role, and then some


class Peer(NamedTuple):
    """Who has a key."""

    dc: str
    role: str
    name: str

    def __str__(self) -> str:
        return "/".join(self)


class KeyList:
    """Whose each key is."""

    def __init__(self, keys: Mapping[str, Peer] | None = None) -> None:
        self._keys = dict(keys or {})
        self._by_peer: dict[Peer, list[str]] = {}
        for key, peer in self._keys.items():
            self._by_peer.setdefault(peer, []).append(key)

    def __len__(self) -> int:
        return len(self._keys)

    def __contains__(self, key: str) -> bool:
        return key in self._keys

    def items(self) -> Iterable[tuple[str, Peer]]:
        """Every key, and whose it is, in the order of the file."""
        return self._keys.items()

    def owner(self, key: str) -> Peer | None:
        """Whose this key is; None: nobody's."""
        return self._keys.get(key)

    def keys_of(self, peer: Peer) -> tuple[str, ...]:
        """The keys of one instance, the newest last."""
        return tuple(self._by_peer.get(peer, ()))

    def nexus_keys(self, dcs: Iterable[str] | None = None) -> tuple[str, ...]:
        """The keys of all Nexuses, or of those in `dcs`."""
        wanted = None if dcs is None else set(dcs)
        return tuple(
            key for key, peer in self._keys.items() if peer.role == "nexus" and (wanted is None or peer.dc in wanted)
        )


def parse_list(text: str, *, source: str) -> KeyList:
    """The list that a file says. Raises ConfigError, which names the line and what would be right."""
    keys: dict[str, Peer] = {}
    if text and not text.endswith("\n"):
        raise ConfigError(f"{source}: its last line has no end: it isn't all there yet")
    for number, line in enumerate(text.splitlines(), start=1):
        words = words_of(line)
        if not words:
            continue
        if problem := _problem(words, keys):
            raise ConfigError(f"{source}, line {number}: {problem}")
        keys[words[0]] = Peer(*words[1:])
        if len(keys) > MAX_KEYS:
            raise ConfigError(f"{source} has more than {MAX_KEYS} keys")
    return KeyList(keys)


def line_of(key: str, peer: Peer, comment: str = "") -> str:
    """A line of the list."""
    return " ".join(((LATER,) if peer.role in LATER_ROLES else ()) + (key, *peer)) + (
        f"  # {comment}" if comment else ""
    )


def words_of(line: str) -> list[str]:
    """The words of a line of the list, its key first; none where it is for people alone."""
    return line.removeprefix(LATER).partition("#")[0].split()


def check_peer(peer: Peer) -> str:
    """What is wrong with somebody's names; empty: nothing."""
    if peer.role not in KEY_ROLES:
        return f"{peer.role!a:.80} is no role; {nearest(peer.role, KEY_ROLES)}"
    for what, name in (("datacenter", peer.dc), ("name", peer.name)):
        if not is_name(name):
            return f"{name!a:.80} can't be a {what}: letters and digits of ASCII, and . _ -"
    return ""


def _problem(words: list[str], keys: Mapping[str, Peer]) -> str:
    if len(words) != 4:
        return f"it has {len(words)} words; a line is KEY DATACENTER ROLE NAME"
    key = words[0]
    if not is_key(key):
        return f"{key!a:.80} is no key, which has 64 digits of 0-9 a-f"
    peer = Peer(*words[1:])
    if key in keys and keys[key] != peer:
        return f"the key {key[:8]}... is {keys[key]}'s already; a key is one instance's"
    return check_peer(peer)

"""The key that Consul's agents encrypt their gossip with: made once, and changed on all of them together.

Servers of datacenters that are joined over WAN gossip with each other too, so they all have the same key. Consul
keeps it in files of its own once it has run; the secret on a host is what an agent without them starts with.

While it is changed, the key that is to be is in `.NAME.next` beside the file; whatever breaks off, the same command
goes on with it.
"""

from __future__ import annotations

import base64
import secrets
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Final, Literal

from msgspec import Struct

from hitmesh.cli.folder import replace_text
from hitmesh.config.addresses import ssh_place
from hitmesh.deploy.acl import Acl, decoded, excerpt
from hitmesh.deploy.consul_requests import OK, Reply, Request
from hitmesh.deploy.desk import Desk
from hitmesh.deploy.facts import Facts
from hitmesh.deploy.paths import KEYS
from hitmesh.deploy.render import consul
from hitmesh.errors import CommandError, HitmeshError
from hitmesh.secrets import read_secret

KEY_BYTES: Final = 32  # `consul keygen` makes such
KEYRING: Final = "/v1/operator/keyring"
AGAIN: Final = "the same command again goes on"
BY_HAND: Final = (
    "by hand: K=$(consul keygen), then on a server of each `consul keyring -install=$K`, when all have it `-use=$K`, and "
    "when all use it `-remove=OLD`; and K into the file of each"
)


class Gossip:
    """The gossip key of one datacenter; `others` are the desks of those that may be joined with it."""

    def __init__(self, desk: Desk, others: Sequence[Desk] = ()) -> None:
        self._desk, self._others = desk, others
        self.path = path_of(desk)

    @property
    def _next(self) -> Path:
        return self.path.with_name(f".{self.path.name}.next")

    def lacking(self, facts: Mapping[str, Facts]) -> list[str]:
        """What `make` would make, and what is wrong, in words."""
        if not self.path.exists():
            return [f"{self.path} isn't there{self._why_not(facts)}"]
        is_loose = self.path.stat().st_mode & 0o077
        return [*self._wrong(), *([f"{self.path}: others can read this secret: chmod 600"] if is_loose else [])]

    def make(self, facts: Mapping[str, Facts]) -> None:
        """Make the key if there is none yet. Raises CommandError where that would part who runs already."""
        if self.path.exists():
            if wrong := self._wrong():
                raise CommandError("; ".join(wrong))
            return
        if why := self._why_not(facts):
            raise CommandError(f"{self.path} isn't there{why}")
        self.path.parent.mkdir(parents=True, exist_ok=True)
        replace_text(self.path, _new_key())
        self._desk.tell(f"{self._desk.fleet.dc}: a gossip key was made: {self.path}")

    def rotate(self) -> bool:
        """Change the key on all agents of all datacenters that are joined; False where it stays, as was told.

        Raises HitmeshError when it broke off: the same command again goes on.
        """
        try:
            rings = [_Ring(desk) for desk in self._joined()]
            for ring in rings:
                ring.check()
        except HitmeshError as error:
            self._desk.tell(f"the gossip key stays as it is: {error}")
            return False
        if not self._next.exists():
            replace_text(self._next, _new_key())
        key = read_secret(self._next).decode("ascii").strip()
        for ring in rings:
            ring.install(key)
        for ring in rings:
            ring.use(key)
        for path in {path_of(ring.desk) for ring in rings} - {self.path}:
            replace_text(path, f"{key}\n")
        self._next.replace(self.path)
        for ring in rings:
            for host in ring.desk.hosts.values():
                host.secret("consul", consul.GOSSIP, consul.gossip_text(key))
        for ring in rings:
            ring.leave_only(key)
        names = ", ".join(ring.desk.fleet.dc for ring in rings)
        self._desk.tell(f"{names}: a new gossip key, the old one on no agent")
        return True

    # --- within -----------------------------------------------------------------------------

    def _joined(self) -> list[Desk]:
        """The desks of all datacenters that gossip with this one. Raises CommandError where one isn't here."""
        found, todo = [], [self._desk]
        while todo:
            desk = todo.pop()
            found.append(desk)
            todo += [other for other in self._others if other not in (*found, *todo) and joined(desk, other)]
        known = {address for desk in found for address in _servers(desk)}
        strangers = [place for desk in found for place in _joins(desk) if place not in known]
        if strangers:
            raise CommandError(
                f"{', '.join(strangers)} is joined over WAN, so it has the same key, and isn't of a datacenter whose file "
                "is here; it is changed for all of them or for none",
                hint=BY_HAND,
            )
        return found

    def _wrong(self) -> list[str]:
        key = read(self._desk)
        found = [] if _is_key(key) else [f"{self.path} holds no gossip key, as `consul keygen` prints one"]
        found += [
            f"{self._desk.fleet.dc} and {other.fleet.dc} are joined over WAN, and have two gossip keys: "
            "let both files name the same one"
            for other in self._others
            if joined(self._desk, other) and read(other) != key
        ]
        return found

    def _why_not(self, facts: Mapping[str, Facts]) -> str:
        """Why no new key may be made; empty where it may."""
        place = f"{KEYS}/{self._desk.fleet.dc}/consul/{consul.GOSSIP}"
        if having := [name for name, fact in facts.items() if place in fact.files]:
            return f", and {', '.join(having)} have one already: copy it from whoever made it"
        if running := [
            name for name, fact in facts.items() if any(one.name == consul.NAME for one in fact.programs or ())
        ]:
            return f", and the Consul of {', '.join(running)} runs without one: none can be added to it while it runs"
        if joins := [other for other in self._others if joined(self._desk, other) and read(other)]:
            return f", and {joins[0].fleet.dc}, which is joined over WAN, has one: name that"
        return ""


class _Ring:
    """The keys that the agents of one datacenter have."""

    def __init__(self, desk: Desk) -> None:
        self.desk = desk
        self._acl = Acl(desk)
        self._token = ""
        if desk.config.deploy.consul.acl:
            if not self._acl.management.exists():
                raise CommandError(f"{self._acl.management} isn't there, and only Consul's management token may do it")
            self._token = self._acl.token()

    def check(self) -> None:
        """Raise CommandError unless every agent is there: one that isn't would never come back."""
        dc = self.desk.fleet.dc
        for name, fact in self.desk.facts().items():
            if not any(one.name == consul.NAME and one.state == "RUNNING" for one in fact.programs or ()):
                raise CommandError(f"the Consul of {dc}'s {name} doesn't run, and would be left with the old one")
        keys = self._listed()
        if not keys.keys:
            raise CommandError(f"the Consul of {dc} runs without one")
        if keys.nodes != len(self.desk.fleet.hosts):
            raise CommandError(f"{keys.nodes} agents of {dc} hear each other, of {len(self.desk.fleet.hosts)}")

    def install(self, key: str) -> None:
        """Have every agent understand this key too."""
        self._change("POST", key, lambda keys: keys.keys.get(key) == keys.nodes)

    def use(self, key: str) -> None:
        """Have every agent speak with it."""
        self._change("PUT", key, lambda keys: keys.primary is None or keys.primary.get(key) == keys.nodes)

    def leave_only(self, key: str) -> None:
        """Have every agent forget all others."""
        for other in self._listed().keys:
            if other != key:
                self._change("DELETE", other, partial(_lacks, other))

    def _change(self, method: Literal["POST", "PUT", "DELETE"], key: str, is_done: Callable[[_Keys], bool]) -> None:
        reply = self._ask(Request(method=method, path=KEYRING, token=self._token, body={"Key": key}))
        # A datacenter has ACLs of its own: one that is joined does it for nobody of another, and is asked by itself.
        if reply.status != OK and not reply.is_unknown_token:
            raise CommandError(f"the Consul of {self.desk.fleet.dc}: {excerpt(reply)}", hint=AGAIN)
        if not is_done(keys := self._listed()):
            raise CommandError(f"not all of the {keys.nodes} agents of {self.desk.fleet.dc} took it", hint=AGAIN)

    def _listed(self) -> _Keys:
        reply = self._ask(Request(method="GET", path=f"{KEYRING}?local-only=true", token=self._token))
        if reply.status != OK:
            if "keyring is empty" in reply.body or "No keyring" in reply.body or "not enabled" in reply.body:
                return _Keys()
            raise CommandError(f"the Consul of {self.desk.fleet.dc}: {excerpt(reply)}")
        rings = decoded(reply, list[_Keys])
        return next((ring for ring in rings if not ring.is_wan and ring.dc == self.desk.fleet.dc), _Keys())

    def _ask(self, request: Request) -> Reply:
        return self._acl.ask([request])[0]


class _Keys(
    Struct,
    frozen=True,
    rename={"is_wan": "WAN", "dc": "Datacenter", "keys": "Keys", "primary": "PrimaryKeys", "nodes": "NumNodes"},
):
    is_wan: bool = False
    dc: str = ""
    keys: Mapping[str, int] = {}  # of how many agents
    primary: Mapping[str, int] | None = None  # Consul 1.8 has it
    nodes: int = 0


def _lacks(key: str, keys: _Keys) -> bool:
    return key not in keys.keys


def path_of(desk: Desk) -> Path:
    """The file with the gossip key of a datacenter."""
    return (desk.path.parent / desk.config.deploy.consul.gossip_key).resolve()


def has_key(desk: Desk) -> bool:
    """Whether Consul is deployed with a datacenter, and its gossip encrypted."""
    return bool(desk.config.deploy.consul.gossip_key) and desk.fleet.has_consul


def read(desk: Desk) -> str:
    """The gossip key of a datacenter; empty where it has none. Raises CommandError."""
    if not has_key(desk) or not path_of(desk).exists():
        return ""
    try:
        return path_of(desk).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise CommandError(f"{path_of(desk)}: can't be read: {error}") from error


def joined(desk: Desk, other: Desk) -> bool:
    """Whether one of two datacenters' servers joins the other's over WAN."""
    return any(set(_joins(one)) & _servers(two) for one, two in ((desk, other), (other, desk)))


def _joins(desk: Desk) -> list[str]:
    return [ssh_place(text)[0] for text in desk.config.deploy.consul.join_wan] if desk.fleet.has_consul else []


def _servers(desk: Desk) -> set[str]:
    """The addresses at which a datacenter's Consul servers are joined."""
    nodes = [desk.config.nodes[host.name] for host in desk.fleet.hosts if host.is_consul_server]
    return {address for node in nodes for address in (node.address, node.wan_address) if address}


def _new_key() -> str:
    return base64.b64encode(secrets.token_bytes(KEY_BYTES)).decode("ascii") + "\n"


def _is_key(text: str) -> bool:
    try:
        return len(base64.b64decode(text, validate=True)) in (16, 24, KEY_BYTES)
    except ValueError:
        return False

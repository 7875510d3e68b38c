"""The Consul of a datacenter, from the operator's machine: asked by way of a host, as whoever may do all where that is needed.

Owns the management token, which is here and on no host, and what Consul's refusals mean; knows no role.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final, TypeVar

import msgspec
from msgspec import Struct

from hitmesh.cli.folder import replace_text
from hitmesh.deploy.consul_requests import FORBIDDEN, NO_ACLS, NO_ANSWER, OK, Replies, Reply, Request
from hitmesh.deploy.desk import Desk
from hitmesh.deploy.render.consul import token_name
from hitmesh.deploy.ssh import Unreachable
from hitmesh.errors import CommandError
from hitmesh.secrets import read_secret

MANAGEMENT: Final = "management"
"""The folder with the management token: no role's, so that no host is given it."""
LEADER_S: Final = 30.0  # that servers which have just started take to elect one, on a busy machine
POLL_S: Final = 0.5
SHOWN_CHARS: Final = 200  # of what Consul says

Answer = TypeVar("Answer")


class Acl:
    """A datacenter's Consul."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self.management = (
            Path(desk.config.keys) / desk.fleet.dc / MANAGEMENT / (token_name(desk.fleet) or "consul.token")
        )
        """Where the management token is, if it is here."""

    def token(self) -> str:
        """The management token. Raises ConfigError."""
        return read_secret(self.management).decode("utf-8", "replace").strip()

    def manage(self) -> None:
        """Have the management token: that which is here, or by the ACLs' bootstrap. Raises HitmeshError."""
        if self.management.exists():
            if self.ask([self_of(self.token())])[0].is_unknown_token:
                raise CommandError(
                    f"{self.management}: Consul doesn't know this management token",
                    hint="put the right one there; if this Consul was set up anew, remove the file",
                )
            return
        self.management.parent.mkdir(parents=True, exist_ok=True)
        self.management.parent.chmod(0o700)
        deadline = time.monotonic() + LEADER_S
        while True:
            reply = self.ask([Request(method="PUT", path="/v1/acl/bootstrap")])[0]
            if reply.status < 500 or time.monotonic() > deadline:
                break
            time.sleep(POLL_S)
        dc = self._desk.fleet.dc
        if reply.status == FORBIDDEN:
            raise CommandError(
                f"the ACLs of {dc}'s Consul were bootstrapped by somebody else",
                hint=f"put its management token into {self.management}, mode 600",
            )
        replace_text(self.management, f"{decoded(self.fine(reply), Token).secret}\n")
        self._desk.tell(
            f"{dc}: the ACLs were bootstrapped; the management token is in {self.management}, and nowhere else"
        )

    def ask(self, requests: Sequence[Request]) -> Replies:
        """What Consul answers, by the first host whose agent does, servers first. Raises CommandError."""
        reasons = []
        for host in sorted(self._desk.fleet.hosts, key=lambda one: not one.is_consul_server) if requests else ():
            try:
                return self._desk.hosts[host.name].consul(requests)
            except CommandError as error:
                if not isinstance(error, Unreachable) and NO_ANSWER not in error.message:
                    raise
                reasons.append(str(error))
        if reasons:
            raise CommandError(f"no Consul of {self._desk.fleet.dc} answers: {'; '.join(reasons)}")
        return []

    def must(self, requests: Sequence[Request]) -> Replies:
        """What it answers to whoever may do all. Raises HitmeshError for anything but 200."""
        token = self.token() if requests else ""
        replies = self.ask([msgspec.structs.replace(one, token=token) for one in requests])
        return [self.fine(reply) for reply in replies]

    def fine(self, reply: Reply) -> Reply:
        """The reply, if it is one of 200. Raises CommandError."""
        dc = self._desk.fleet.dc
        if reply.status == NO_ACLS or "ACL support disabled" in reply.body:
            raise CommandError(
                f"the Consul of {dc} runs without ACLs",
                hint="`fab bootstrap` brings consul.json; then restart consul-1 on each host, one at a time",
            )
        if reply.status != OK:
            raise CommandError(f"the Consul of {dc} refuses: {excerpt(reply)}")
        return reply


class Token(Struct, frozen=True, rename={"accessor": "AccessorID", "secret": "SecretID"}):
    """As Consul has a token."""

    accessor: str
    secret: str


def self_of(token: str) -> Request:
    """To ask what a token is; Consul says it to the token itself."""
    return Request(method="GET", path="/v1/acl/token/self", token=token)


def decoded(reply: Reply, type_: type[Answer]) -> Answer:
    """What is in a reply. Raises CommandError."""
    try:
        return msgspec.json.decode(reply.body, type=type_)
    except msgspec.MsgspecError:  # whose text may have a secret in it, such as the bootstrap's
        raise CommandError("Consul answers what can't be read") from None


def excerpt(reply: Reply) -> str:
    """A reply that is none, for people."""
    return f"{reply.status}: {reply.body.strip()[:SHOWN_CHARS]}"

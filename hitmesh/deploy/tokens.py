"""Consul's ACL tokens: made, changed and taken away in Consul, and kept in the folder of keys on the operator's machine.

Each role has one, and so have operators and Consul's own agents; whoever has Consul's management token, which stays
here, can make them. Which host gets which is `keys`'s. A token that is to be is written here first and made in Consul
then, by that name: whatever breaks off, the same command goes on with it. One that Consul has forgotten never comes
back.

Files of a role's folder: NAME, in use; `.NAME.next`, made or about to be; `.NAME.former`, to be deleted in Consul.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from msgspec import Struct

from hitmesh.cli.folder import replace_text
from hitmesh.config import ROLES
from hitmesh.deploy.acl import Acl, Token, decoded, excerpt, self_of
from hitmesh.deploy.consul_requests import OK, Request
from hitmesh.deploy.desk import Desk
from hitmesh.deploy.policies import policy_name, rules_of
from hitmesh.deploy.remote import RemoteHost
from hitmesh.deploy.render.consul import AGENT, agent_text, agent_token, token_name
from hitmesh.errors import CommandError
from hitmesh.secrets import read_secret
from hitmesh.state.keylist import OPERATOR

AGENTS: Final = "agent"
KNOWN_S: Final = 60.0  # an agent that once didn't know a token doesn't ask again for 30 s
POLL_S: Final = 0.5


class Bearer(Struct, frozen=True):
    """Who has a token of its own, and the file that it is in."""

    who: str  # as its policy is named
    path: Path

    @property
    def next(self) -> Path:
        """Where the one is that comes."""
        return self.path.with_name(f".{self.path.name}.next")

    @property
    def former(self) -> Path:
        """Where the one is that goes."""
        return self.path.with_name(f".{self.path.name}.former")

    def text(self, token: str) -> str:
        """What its file holds."""
        return agent_text(token) if self.who == AGENTS else f"{token}\n"

    def token(self, path: Path) -> str:
        """What one of its files holds. Raises ConfigError."""
        content = read_secret(path).decode("utf-8", "replace")
        return agent_token(content) if self.who == AGENTS else content.strip()


class Tokens:
    """The tokens of one datacenter whose Consul is deployed with it."""

    def __init__(self, desk: Desk, folder: Path, name: str) -> None:
        self._desk, self._folder = desk, folder / desk.fleet.dc
        self._acl = Acl(desk)
        self.bearers = [
            *(Bearer(role, self._folder / role / name) for role in (*ROLES, OPERATOR)),
            Bearer(AGENTS, self._folder / "consul" / AGENT),
        ]

    @classmethod
    def of(cls, desk: Desk, folder: Path) -> Tokens | None:
        """Those of a datacenter; None where it has none that are ours to make. Raises CommandError."""
        name = token_name(desk.fleet)
        return cls(desk, folder, name) if name else None

    # --- looking ----------------------------------------------------------------------------

    def lacking(self) -> list[str]:
        """What `make` would make, or change in Consul, in words; and what it can't. Raises HitmeshError."""
        found = [f"{one.who} has no ACL token" for one in self.bearers if not one.path.exists()]
        if found:
            return found
        unknown = self._unknown()
        found = [f"the ACL token of {one.who} is unknown to Consul" for one in unknown]
        if self._acl.management.exists():
            found += [f"the policy {policy_name(who)} isn't as docs/consul has it" for who in self._other_policies()]
        return found

    def unfinished(self) -> list[str]:
        """Who has two tokens, since a change broke off."""
        return [one.who for one in self.bearers if one.former.exists()]

    # --- making -----------------------------------------------------------------------------

    def make(self) -> None:
        """Make what is missing in Consul; twice changes nothing. Raises HitmeshError."""
        unknown = self._unknown()
        if not unknown and not self._acl.management.exists():
            return  # somebody has made them all by hand, and they are good for what they are
        self._acl.manage()
        others = self._other_policies()
        self._acl.must([self._policy(who, id_) for who, id_ in others.items()])
        for who, id_ in others.items():
            self._desk.tell(f"{self._dc}: the policy {policy_name(who)} was {'changed' if id_ else 'made'}")
        self._make_next(unknown)
        for one in unknown:
            one.next.replace(one.path)
            self._desk.tell(f"{one.who}: an ACL token was made")

    def renew(self, bearers: Sequence[Bearer] = ()) -> None:
        """Make each of these, or all, another token, and have it be the one in its file. Raises HitmeshError.

        Whoever has a former one still is in the midst of a change, and gets no third.
        """
        chosen = [one for one in bearers or self.bearers if one.next.exists() or not one.former.exists()]
        self._acl.manage()
        self._make_next(chosen)
        for one in chosen:
            if not one.former.exists():
                replace_text(one.former, one.path.read_text(encoding="utf-8"))
            one.next.replace(one.path)

    def drop_former(self, bearers: Sequence[Bearer] = ()) -> int:
        """Delete those in Consul that these, or all, had before; how many. Raises HitmeshError."""
        formers = [one for one in bearers or self.bearers if one.former.exists()]
        if not formers:
            return 0
        selves = self._acl.ask([self_of(one.token(one.former)) for one in formers])
        there = [decoded(self._acl.fine(reply), Token).accessor for reply in selves if not reply.is_unknown_token]
        self._acl.must([Request(method="DELETE", path=f"/v1/acl/token/{accessor}") for accessor in there])
        for one in formers:
            one.former.unlink()
        return len(there)

    def set_agent(self, host: RemoteHost) -> None:
        """Have the agent of a host use its token from now on, also when it starts anew. Raises HitmeshError."""
        agent = self.bearers[-1]
        body = {"Token": agent.token(agent.path)}
        reply = host.consul([Request(method="PUT", path="/v1/agent/token/agent", token=self._acl.token(), body=body)])[
            0
        ]
        if reply.status != OK:
            raise CommandError(f"{host.name}: its Consul doesn't take the agent's token: {excerpt(reply)}")

    def named(self, who: str) -> Bearer | None:
        """Whose token DC/ROLE/NAME is."""
        return next((one for one in self.bearers if f"{self._dc}/{one.path.parent.name}/{one.path.name}" == who), None)

    # --- within -----------------------------------------------------------------------------

    @property
    def _dc(self) -> str:
        return self._desk.fleet.dc

    def _unknown(self) -> list[Bearer]:
        """Those whose token isn't here, or not in Consul."""
        here = [one for one in self.bearers if one.path.exists()]
        replies = dict(
            zip([one.who for one in here], self._acl.ask([self_of(one.token(one.path)) for one in here]), strict=True)
        )
        for reply in replies.values():
            if not reply.is_unknown_token:
                self._acl.fine(reply)
        return [one for one in self.bearers if one.who not in replies or replies[one.who].is_unknown_token]

    def _make_next(self, bearers: Sequence[Bearer]) -> None:
        """Have a next token of each of these in Consul, and known to all of its agents."""
        begun = [one for one in bearers if one.next.exists()]  # by a command that broke off
        replies = self._acl.ask([self_of(one.token(one.next)) for one in begun])
        made = [one for one, reply in zip(begun, replies, strict=True) if not reply.is_unknown_token]
        for one in bearers:
            if one not in begun:
                one.path.parent.mkdir(parents=True, exist_ok=True)
                replace_text(one.next, one.text(str(uuid.uuid4())))
        bodies = [
            {
                "SecretID": one.token(one.next),
                "Description": f"hitmesh {self._dc} {one.who}",
                "Policies": [{"Name": policy_name(one.who)}],
            }
            for one in bearers
            if one not in made
        ]
        self._acl.must([Request(method="PUT", path="/v1/acl/token", body=body) for body in bodies])
        self._wait_known([one.token(one.next) for one in bearers])

    def _wait_known(self, tokens: Sequence[str]) -> None:
        """Until every agent that answers knows these tokens: one that doesn't would refuse its roles."""
        requests = [self_of(token) for token in tokens]
        deadline = time.monotonic() + KNOWN_S
        waiting = [host for host in self._desk.fleet.hosts if requests]
        while waiting:
            answers = self._desk.each(waiting, lambda host: host.consul(requests))
            waiting = [
                host
                for host in waiting
                if not isinstance(found := answers[host.name], CommandError)
                and any(reply.status != OK for reply in found)
            ]
            if waiting and time.monotonic() > deadline:
                names = ", ".join(host.name for host in waiting)
                raise CommandError(
                    f"the Consul of {names} doesn't know the new tokens after {KNOWN_S:g} s",
                    hint="the same command again goes on",
                )
            if waiting:
                time.sleep(POLL_S)

    def _other_policies(self) -> Mapping[str, str]:
        """Whose policy isn't in Consul as it is here: its id there, empty where there is none."""
        [listing] = self._acl.must([Request(method="GET", path="/v1/acl/policies")])
        listed = decoded(listing, list[_Policy])
        ids = {policy.name: policy.id for policy in listed}
        wanted = {one.who: ids.get(policy_name(one.who), "") for one in self.bearers}
        there = {who: id_ for who, id_ in wanted.items() if id_}
        replies = self._acl.must([Request(method="GET", path=f"/v1/acl/policy/{id_}") for id_ in there.values()])
        same = {
            who
            for who, reply in zip(there, replies, strict=True)
            if decoded(reply, _Policy).rules == rules_of(who, self._desk.config)
        }
        return {who: id_ for who, id_ in wanted.items() if who not in same}

    def _policy(self, who: str, id_: str) -> Request:
        """To make a policy, or to change the one of that id."""
        body = {"Name": policy_name(who), "Rules": rules_of(who, self._desk.config)}
        if not id_:
            return Request(method="PUT", path="/v1/acl/policy", body=body)
        return Request(method="PUT", path=f"/v1/acl/policy/{id_}", body=body | {"ID": id_})


class _Policy(Struct, frozen=True, rename={"id": "ID", "name": "Name", "rules": "Rules"}):
    id: str
    name: str
    rules: str = ""

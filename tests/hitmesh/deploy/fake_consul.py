"""The ACLs and the gossip keys of a Consul in memory, as it answers requests of `hitmesh-host consul`."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable
from typing import Any

from hitmesh.deploy.consul_requests import Reply, Request
from hitmesh.deploy.host.rules import check_consul_request

UNKNOWN = Reply(403, "ACL not found")


class FakeConsul:
    """One datacenter's; `agents` are hosts."""

    def __init__(self, dc: str, agents: int) -> None:
        self.dc, self.agents = dc, agents
        self.bootstrapped_by_others = self.has_no_acls = False
        self.management = ""
        self.policies: dict[str, dict[str, str]] = {}  # by id
        self.tokens: dict[str, dict[str, Any]] = {}  # by secret
        self.agent_tokens: dict[str, str] = {}  # by host
        self.keys: list[str] = []  # of gossip; the first is spoken with
        self.joined: list[FakeConsul] = []
        self.changes: list[str] = []
        self.before_change: Callable[[str], None] = lambda what: None

    def answer(self, host: str, request: Request) -> Reply:
        """Of the agent of a host."""
        check_consul_request(request)
        if self.has_no_acls and "/acl/" in request.path:
            return Reply(401, "ACL support disabled")
        if request.method != "GET":
            self.before_change(f"{request.method} {request.path}")
            self.changes.append(f"{request.method} {request.path}")
        if request.path == "/v1/acl/bootstrap":
            return self._bootstrap()
        if request.path == "/v1/acl/token/self":
            found = self.tokens.get(request.token)
            return _json(found) if found else UNKNOWN
        if request.path.startswith("/v1/operator/keyring"):
            return self._keyring(request)
        if not self.management or request.token != self.management:
            return UNKNOWN
        return self._acl(host, request)

    def names(self) -> list[str]:
        """The policies of all tokens but the management's, sorted."""
        return sorted(one["Policies"][0]["Name"] for secret, one in self.tokens.items() if secret != self.management)

    def rules(self, name: str) -> str:
        """Of a policy."""
        return next(one["Rules"] for one in self.policies.values() if one["Name"] == name)

    def _bootstrap(self) -> Reply:
        if self.management or self.bootstrapped_by_others:
            return Reply(403, "Permission denied: ACL bootstrap no longer allowed (reset index: 9)")
        self.management = str(uuid.uuid4())
        self.tokens[self.management] = {"AccessorID": str(uuid.uuid4()), "SecretID": self.management}
        return _json(self.tokens[self.management])

    def _acl(self, host: str, request: Request) -> Reply:
        name = request.path.rpartition("/")[2]
        if request.path == "/v1/agent/token/agent":
            self.agent_tokens[host] = request.body["Token"]
            return Reply(200, "")
        if request.path == "/v1/acl/policies":
            return _json([{key: one[key] for key in ("ID", "Name")} for one in self.policies.values()])
        if request.path.startswith("/v1/acl/policy"):
            if request.method == "GET":
                return _json(self.policies[name])
            if "ID" not in request.body and request.body["Name"] in [one["Name"] for one in self.policies.values()]:
                return Reply(500, "Invalid Policy: A Policy with that name already exists")
            id_ = request.body.get("ID", str(uuid.uuid4()))
            self.policies[id_] = {**request.body, "ID": id_}
            return _json(self.policies[id_])
        if request.method == "DELETE":
            self.tokens = {secret: one for secret, one in self.tokens.items() if one["AccessorID"] != name}
            return Reply(200, "true")
        self.tokens[request.body["SecretID"]] = {"AccessorID": str(uuid.uuid4()), **request.body}
        return _json(self.tokens[request.body["SecretID"]])

    def _keyring(self, request: Request) -> Reply:
        if request.token != self.management:
            return UNKNOWN
        if request.method == "GET":
            keys = dict.fromkeys(self.keys, self.agents)
            primary = dict.fromkeys(self.keys[:1], self.agents)
            ring = {"WAN": False, "Datacenter": self.dc, "Keys": keys, "PrimaryKeys": primary, "NumNodes": self.agents}
            return _json([ring])
        key = request.body["Key"]
        if request.method == "DELETE":
            if key == self.keys[0]:
                return Reply(500, "removing the primary key is not allowed")
            self.keys.remove(key)
        elif request.method == "PUT":
            self.keys.remove(key)
            self.keys.insert(0, key)
        elif key not in self.keys:
            self.keys.append(key)
        return UNKNOWN if self.joined and self.management else Reply(200, "")  # the others' ACLs don't know the token


def _json(what: object) -> Reply:
    return Reply(200, json.dumps(what))

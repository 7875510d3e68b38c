"""Consul on a host: a server where the datacenter's file says so, an agent on each of its other hosts. Pure.

They speak HTTP on loopback alone, and DNS; among each other on the host's address. Secrets, the gossip key and the
agents' own token, are in files of their own (SECRETS), which are read where they are there.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote

import msgspec

from hitmesh.config import Config, host_port
from hitmesh.config.addresses import ssh_place, usual
from hitmesh.deploy.files import File
from hitmesh.deploy.fleet import Fleet, Host
from hitmesh.deploy.paths import CONSUL_CONF, KEYS, state_folder, user_of
from hitmesh.deploy.render.supervisor import program_file
from hitmesh.errors import CommandError
from hitmesh.protocol.names import bracketed
from hitmesh.store.consul_agent import AgentPorts, agent_command, agent_config

NAME: Final = "consul-1"  # a host has one
SERVER_PORT, LAN_PORT, WAN_PORT, DNS_PORT = 8300, 8301, 8302, 8600  # Consul's own
HTTP_PORT: Final = 8500
GOSSIP: Final = "gossip.json"
"""The secret of role `consul` with the gossip key, `{"encrypt": KEY}`."""
AGENT: Final = "agent.json"
"""The secret of role `consul` with the token of Consul's own agents; `{}` until there is one."""
WITHOUT_AGENT: Final = "{}\n"
STOP_WAIT_S: Final = 10


def files(fleet: Fleet, host: Host) -> list[File]:
    """The configuration and the program file of a host's Consul; none where no server is deployed."""
    if not fleet.has_consul:
        return []
    config = msgspec.json.format(msgspec.json.encode(_config(fleet, host)), indent=2).decode() + "\n"
    argv = agent_command(Path(CONSUL_CONF))
    if fleet.config.deploy.consul.gossip_key:
        argv.append(f"-config-file={KEYS}/{fleet.dc}/consul/{GOSSIP}")
    if token_name(fleet):
        argv.append(f"-config-file={KEYS}/{fleet.dc}/consul/{AGENT}")
    program = program_file(fleet.dc, "consul", NAME, {"command": " ".join(argv), "stop_wait_s": str(STOP_WAIT_S)})
    return [File(path=CONSUL_CONF, text=config, owner=user_of("consul"), mode=0o640, then="consul"), program]


def gossip_text(key: str) -> str:
    """What the secret GOSSIP holds."""
    return msgspec.json.encode({"encrypt": key.strip()}).decode() + "\n"


def agent_text(token: str) -> str:
    """What the secret AGENT holds."""
    return msgspec.json.encode({"acl": {"tokens": {"agent": token}}}).decode() + "\n"


def agent_token(text: str) -> str:
    """The token in what the secret AGENT holds. Raises CommandError."""
    try:
        return str(msgspec.json.decode(text)["acl"]["tokens"]["agent"])
    except (msgspec.MsgspecError, KeyError, TypeError):
        raise CommandError(f"{AGENT} holds no token of Consul's agents") from None  # whose text may be a secret


def token_name(fleet: Fleet) -> str:
    """What the secret of each role with its ACL token is called; empty where the tokens aren't ours to make.

    They are where Consul is deployed with `acl = true`, and URLs name a secret of each role. Raises CommandError.
    """
    config = fleet.config
    urls = {
        f"stores.{name}": url
        for name, url in (("totals", config.stores.totals), ("settings", config.stores.settings))
        if url.startswith("consul")
    }
    if not (config.deploy.consul.acl and fleet.has_consul and urls):
        return ""
    folder = f"{KEYS}/{fleet.dc}/{{role}}/"
    names = set()
    for setting, url in urls.items():
        query = dict(part.partition("=")[::2] for part in url.partition("?")[2].split("&"))
        file = unquote(query.get("token", ""))
        if not file:
            raise CommandError(
                f"{setting} names no ACL token, and without one Consul lets nobody do anything",
                hint=f"?token={folder}consul.token at its end",
            )
        names.add(file.removeprefix(folder) if file.startswith(folder) else "")
    name = names.pop() if len(names) == 1 else ""
    return name if re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]{0,62}(\.[a-z]{1,8})?", name) else ""


def _config(fleet: Fleet, host: Host) -> dict[str, Any]:
    servers = [one for one in fleet.hosts if one.is_consul_server]
    wan = fleet.config.deploy.consul.join_wan if host.is_consul_server else ()
    http = _http_port(fleet.config)
    ports = AgentPorts(http=http, server=SERVER_PORT, serf_lan=LAN_PORT, serf_wan=WAN_PORT)
    details = agent_config(
        fleet.dc, ports, Path(state_folder(NAME)), node=f"{fleet.dc}-{host.name}", servers=len(servers)
    ) | {
        "bind_addr": host.address,
        "retry_join": [bracketed(one.address) for one in servers if one.name != host.name],
        "retry_join_wan": [_wan_place(text) for text in wan],
    }
    details["ports"]["dns"] = DNS_PORT
    if host.is_consul_server:
        if wan_address := fleet.config.nodes[host.name].wan_address:
            details["advertise_addr_wan"] = wan_address
    else:
        details["server"] = False
        del details["bootstrap_expect"], details["retry_join_wan"]
    if fleet.config.deploy.consul.acl:
        details["acl"] = {"enabled": True, "default_policy": "deny", "enable_token_persistence": True}
    return details


def _http_port(config: Config) -> int:
    """The port at which the roles ask the agent on their own host."""
    urls = [url for url in (config.stores.totals, config.stores.settings) if url.startswith("consul")]
    ports = {_loopback_port(url) for url in urls} or {HTTP_PORT}
    if len(ports) > 1:
        raise CommandError(f"stores.totals and stores.settings ask two Consuls of a host: {sorted(ports)}")
    return ports.pop()


def _loopback_port(url: str) -> int:
    scheme, _, rest = url.partition("://")
    places: Sequence[tuple[str, int]] = [host_port(text) for text in rest.partition("/")[0].split(",")]
    if scheme != "consul" or [usual(address) for address, _ in places] not in (["127.0.0.1"], ["::1"], ["localhost"]):
        raise CommandError(
            f"{url}: the Consul that bootstrap sets up speaks HTTP on loopback",
            hint="consul://127.0.0.1:8500/PREFIX, or no consul_server = true",
        )
    return places[0][1]


def _wan_place(text: str) -> str:
    host, port = ssh_place(text)
    return f"{bracketed(host)}:{port if text.endswith(f':{port}') else WAN_PORT}"

"""`hitmesh endpoints`: where the roles of a mesh listen, from its configuration and its Nexuses."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import click

from hitmesh.cli import folder, picture
from hitmesh.cli.options import json_option, state_dir_option
from hitmesh.cli.supervision import Supervisor
from hitmesh.cli.targets import targets
from hitmesh.config import DEFAULT_HOST, Alias, Config, Placement, Proxy, host_port_text, nexus_endpoints
from hitmesh.config.addresses import interface
from hitmesh.protocol.messages import Answer
from hitmesh.visible import visible

DASHBOARD: Final = "dashboard"
# Of which role, under what name it is shown, and what the instance itself calls it.
_ANNOUNCED = (
    ("balancer", "balancer", "http"),
    ("balancer", "balancer_tls", "tls"),
    ("balancer", "balancer_admin", "admin"),
    ("collector", "collector", "http"),
    ("collector", "collector_admin", "admin"),
    ("processor", "processor_admin", "admin"),
    ("nexus", "nexus_admin", "admin"),
    ("dashboard", DASHBOARD, "http"),
    ("recorder", "recorder_admin", "admin"),
    ("scaler", "scaler_admin", "admin"),
)


@click.command(short_help="Show where the roles of a mesh listen.")
@state_dir_option
@json_option
@click.option(
    "--prometheus",
    "as_targets",
    is_flag=True,
    help="Print where Prometheus scrapes it: a file for its file_sd_configs.",
)
def endpoints(state_dir: Path, as_json: bool, as_targets: bool) -> None:
    """Show where the instances of a mesh listen, by datacenter and role.

    The configured ones, whether they run or not, and those that somebody started by hand. --json has the URL of one
    dashboard besides, which shows all datacenters.

    \b
    Example:
      curl -X POST "$(hitmesh endpoints --json | jq -r '.["eu-west"].balancer[0]')/hit/example.com/"
      hitmesh endpoints --prometheus >targets.json
    """
    running = Supervisor(state_dir).running()
    found, groups = {}, []
    for config in folder.datacenters(state_dir):
        answer = picture.ask(config) if config.name in running else None
        found[config.name] = by_role(config)
        _add_living(found[config.name], answer)
        groups += targets(config, answer)
    if as_targets:
        print(json.dumps(groups, indent=2))
        return
    if not as_json:
        print(text(found))
        return
    first = dashboard(found)
    print(json.dumps({**found, DASHBOARD: first} if first else found, indent=2))


def dashboard(found: Mapping[str, Mapping[str, Sequence[str]]]) -> str:
    """The URL of a dashboard, of which any shows all datacenters; empty where there is none."""
    return next((urls[0] for roles in found.values() if (urls := roles.get(DASHBOARD))), "")


def by_role(config: Config) -> dict[str, list[str]]:
    """The URLs and endpoints of one datacenter; a role that listens nowhere has none."""
    balancers, collectors = config.instances("balancer"), config.instances("collector")
    admin = "https" if config.balancer.tls.admin else "http"
    found = {
        "virtual_ip": _virtual_ip(config),
        "balancer": [_url("http", each.address, each.port) for each in balancers],
        "balancer_tls": [_url("https", each.address, each.tls_port) for each in balancers if each.tls_port],
        "balancer_admin": [_url(admin, each.address, each.admin_port) for each in balancers if each.admin_port],
        "collector": [_url("http", each.address, each.port) for each in collectors],
        "collector_admin": _admin(collectors),
        "processor_admin": _admin(config.instances("processor")),
        "nexus": [nexus_endpoints(each).lookups for each in config.instances("nexus")],
        "nexus_admin": _admin(config.instances("nexus")),
        DASHBOARD: [_url("http", each.address, each.port) for each in config.instances("dashboard")],
        "recorder_admin": _admin(config.instances("recorder")),
        "scaler_admin": _admin(config.instances("scaler")),
    }
    always = ("balancer", "collector", "nexus")
    return {role: urls for role, urls in found.items() if urls or role in always}


def front(config: Config) -> list[str]:
    """The URLs to which this datacenter's hits are sent.

    Those of its balancers, where these pass on every Host to the collectors, or else the collectors'. A virtual IP
    stands for all balancers.
    """
    roles = by_role(config)
    routes = config.route_table()
    route = routes.get(DEFAULT_HOST)
    if isinstance(route, Alias):
        route = routes.get(route.of)
    passes_on = isinstance(route, Proxy) and route.service == "collector" and not config.balancer.tls.redirect
    balancers = roles.get("virtual_ip", [])[:1] or roles["balancer"]
    return balancers if passes_on and balancers else roles["collector"]


def _virtual_ip(config: Config) -> list[str]:
    if not config.virtual_ip.address:
        return []
    address = str(interface(config.virtual_ip.address).ip)
    tls = [_url("https", address, config.ports.balancer_tls)] if config.ports.balancer_tls else []
    return [_url("http", address, config.ports.balancer), *tls]


def _admin(placements: Sequence[Placement]) -> list[str]:
    return [_url("http", each.address, each.admin_port) for each in placements if each.admin_port]


def _url(scheme: str, address: str, port: int | None) -> str:
    return f"{scheme}://{host_port_text(address, port)}"


def _add_living(roles: dict[str, list[str]], answer: Answer | None) -> None:
    """Those that heartbeat from elsewhere than is configured; the workers of one balancer share a URL."""
    for role, at, key in _ANNOUNCED:
        for seen in picture.alive(answer, role):
            url = seen.instance.endpoints.get(key)
            if url and url not in roles.setdefault(at, []):
                roles[at].append(url)


def text(found: dict[str, dict[str, list[str]]]) -> str:
    """One line per role that listens."""
    rows: Sequence[tuple[str, str, str]] = [
        (dc, role, visible(" ".join(urls))) for dc, roles in found.items() for role, urls in roles.items() if urls
    ]
    dc_width, role_width = (max(len(row[column]) for row in rows) for column in (0, 1))
    return "\n".join(f"{dc:{dc_width}}  {role:{role_width}}  {urls}" for dc, role, urls in rows)

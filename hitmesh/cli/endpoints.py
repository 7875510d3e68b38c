"""`hitmesh endpoints`: where the roles of a mesh listen, from its configuration and its Nexuses."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import click

from hitmesh.cli import folder, picture
from hitmesh.cli.options import json_option, state_dir_option
from hitmesh.cli.supervision import Supervisor
from hitmesh.config import Config, nexus_endpoints
from hitmesh.protocol.messages import Answer


@click.command(short_help="Show where the roles of a mesh listen.")
@state_dir_option
@json_option
def endpoints(state_dir: Path, as_json: bool) -> None:
    r"""Show where the instances of a mesh listen, by datacenter and role.

    The configured ones, whether they run or not, and those that somebody started by hand.

    \b
    Example:
      curl -X POST "$(hitmesh endpoints --json | jq -r '.["eu-west"].collector[0]')/hit/example.com/"
    """
    running = Supervisor(state_dir).running()
    found = {}
    for config in folder.datacenters(state_dir):
        found[config.name] = by_role(config)
        if config.name in running:
            _add_living(found[config.name], picture.ask(config))
    print(json.dumps(found, indent=2) if as_json else text(found))


def by_role(config: Config) -> dict[str, list[str]]:
    """The URLs and endpoints of one datacenter; a role that listens nowhere has none."""
    return {
        "balancer": [],
        "collector": [f"http://{each.address}:{each.port}" for each in config.instances("collector")],
        "nexus": [nexus_endpoints(each).lookups for each in config.instances("nexus")],
    }


def _add_living(roles: dict[str, list[str]], answer: Answer | None) -> None:
    for seen in picture.alive(answer, "collector"):
        url = seen.instance.endpoints.get("http")
        if url and url not in roles["collector"]:
            roles["collector"].append(url)


def text(found: dict[str, dict[str, list[str]]]) -> str:
    """One line per role that listens."""
    rows: Sequence[tuple[str, str, str]] = [
        (dc, role, " ".join(urls)) for dc, roles in found.items() for role, urls in roles.items() if urls
    ]
    width = max(len(dc) for dc, _, _ in rows)
    return "\n".join(f"{dc:{width}}  {role:9}  {urls}" for dc, role, urls in rows)

"""`hitmesh ready`: what a running mesh still lacks."""

from __future__ import annotations

import http.client
import json
from pathlib import Path

import click

from hitmesh.cli import folder, picture
from hitmesh.cli.options import json_option, state_dir_option
from hitmesh.cli.readiness import as_text, lacking_in, unable
from hitmesh.cli.stderr import warn
from hitmesh.config import Config


@click.command(short_help="Say what isn't ready; status 1 unless all is.")
@state_dir_option
@json_option
def ready(state_dir: Path, as_json: bool) -> int:
    """Say what a running mesh lacks to be ready; status 1 unless it lacks nothing.

    Ready is what `up` waits for: every configured instance heartbeats, every partition has an owner, every
    collector and balancer says on /health that it can take a hit, and every Nexus hears the other datacenters; and
    that each Nexus knows everybody, as one that has just started doesn't.

    \b
    Example:
      until hitmesh ready; do sleep 1; done
    """
    configs = folder.datacenters(state_dir)
    lacking = lacking_in(configs)
    for config in configs:
        found = lacking.get(config.name, [])
        # `up` asks for these only when nothing else is lacking; here whatever is wrong is to be known.
        named = {each.partition(" ")[0] for each in found}
        ill = unable(config, "collector", http.client.OK) if found else []
        found = [*found, *(each for each in ill if each.partition(" ")[0] not in named), *_cold(config)]
        if found:
            lacking[config.name] = found
    if as_json:
        print(json.dumps(lacking, indent=2))
    elif not lacking:
        print("ready")
    else:
        warn(f"not ready: {as_text(lacking)}")
    return 1 if lacking else 0


def _cold(config: Config) -> list[str]:
    names = [one.name for one in config.instances("nexus")]
    return [f"{name} (doesn't know everybody yet)" for name in names if picture.is_warm(config, name) is False]

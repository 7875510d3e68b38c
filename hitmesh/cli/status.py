"""`hitmesh status`: every instance of a mesh, from its Nexuses and its supervisord."""

from __future__ import annotations

import json
import time
from pathlib import Path

import click

from hitmesh.cli import folder, picture, turned_away
from hitmesh.cli.options import json_option, state_dir_option
from hitmesh.cli.stderr import warn
from hitmesh.cli.stores import trouble
from hitmesh.cli.supervision import Supervisor
from hitmesh.errors import CommandError


@click.command(short_help="Show every instance: state, pid, uptime, heartbeat, load.")
@state_dir_option
@json_option
def status(state_dir: Path, as_json: bool) -> None:
    """Show every instance of a mesh: its state, process, heartbeat and load.

    The state is up, failing (with why), draining or dead as the Nexuses know it. A process without a heartbeat is
    shown with supervisord's word, such as starting, stopped or backoff; instances started by hand
    appear as well. `load` is what the instance itself says with its heartbeats. A store that can't be read is said.

    \b
    Example:
      hitmesh status --json | jq '.[] | select(.state != "up")'
    """
    supervisor = Supervisor(state_dir)
    configs, running, programs = folder.datacenters(state_dir), supervisor.running(), supervisor.programs()
    if programs is None and not running:
        raise CommandError(f"no mesh runs in {state_dir}", hint="`hitmesh up -d` starts one")
    if programs is None:
        warn("supervisord doesn't answer; its processes go on without it")
    shown = []
    for config in configs:
        answer = picture.ask(config) if config.name in running else None
        shown += picture.merge(config.name, answer, programs or [], int(time.time() * 1000))
        if config.name in running and answer is None:
            warn(f"no Nexus of {config.name} answers; its lines are supervisord's")
        if rivals := picture.rivals(config.name, answer):
            warn(f"{config.name}: names that two processes use: {rivals}; the Nexuses' logs name them")
        for words in turned_away.told(config.name, answer):
            warn(words)
        if config.name in running and (said := trouble(config, state_dir / config.name)):
            warn(f"{config.name}: {said}")
    if as_json:
        print(json.dumps([picture.as_json(each) for each in shown], indent=2))
    else:
        print(picture.table(shown))

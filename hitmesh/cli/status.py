"""`hitmesh status`: every instance of a mesh, from its Nexuses and its supervisord."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path

import click
from msgspec import Struct

from hitmesh.cli import folder, picture, turned_away
from hitmesh.cli.live_lines import moment
from hitmesh.cli.options import json_option, state_dir_option, watch_option
from hitmesh.cli.redraw import redraw
from hitmesh.cli.stderr import warn
from hitmesh.cli.stores import trouble
from hitmesh.cli.supervision import Supervisor
from hitmesh.config import Config
from hitmesh.errors import CommandError
from hitmesh.protocol.messages import Answer


class Look(Struct, frozen=True):
    """A mesh at one moment."""

    shown: Sequence[picture.Shown]
    notes: Sequence[str]  # what needs to be known besides


@click.command(short_help="Show every instance: state, pid, uptime, heartbeat, load.")
@state_dir_option
@json_option
@watch_option
def status(state_dir: Path, as_json: bool, watch: bool) -> None:
    """Show every instance of a mesh: its state, process, heartbeat and load.

    The state is up, failing (with why), draining, starting, silent (heartbeats are missing) or dead, as the Nexuses
    know it. Of one without a process it is supervisord's word, such as stopped or backoff; instances started by hand
    appear as well. `load` is what the instance itself says with its heartbeats. A store that can't be read is said.

    \b
    Example:
      hitmesh status --json | jq '.[] | select(.state != "up")'
      hitmesh status -w                         # each second anew, until Ctrl-C
    """
    if watch:
        redraw(lambda: _json_lines(look(state_dir)) if as_json else _lines(look(state_dir)))
        return
    found = look(state_dir)
    for note in found.notes:
        warn(note)
    if as_json:
        print(json.dumps([picture.as_json(each) for each in found.shown], indent=2))
    else:
        print(picture.table(found.shown))


def look(state_dir: Path) -> Look:
    """Every instance of every datacenter of a state folder. Raises CommandError when no mesh runs there."""
    supervisor = Supervisor(state_dir)
    configs, running, programs = folder.datacenters(state_dir), supervisor.running(), supervisor.programs()
    if programs is None and not running:
        raise CommandError(f"no mesh runs in {state_dir}", hint="`hitmesh up -d` starts one")
    shown: list[picture.Shown] = []
    notes = ["supervisord doesn't answer; its processes go on without it"] if programs is None else []
    for config in configs:
        answer = _asked(config) if config.name in running else None
        heartbeat_s = config.timing.heartbeat_s
        shown += picture.merge(
            config.name, answer, picture.without_idle(config, programs or []), int(time.time() * 1000),
            heartbeat_s=heartbeat_s,
        )  # fmt: skip
        if config.name in running and answer is None:
            notes.append(f"no Nexus of {config.name} answers; its lines are supervisord's")
        if rivals := picture.rivals(config.name, answer):
            notes.append(f"{config.name}: names that two processes use: {rivals}; the Nexuses' logs name them")
        notes += turned_away.told(config.name, answer)
        if config.name in running and (said := trouble(config, state_dir / config.name)):
            notes.append(f"{config.name}: {said}")
    return Look(shown, notes)


def _asked(config: Config) -> Answer | None:
    """What a Nexus knows; asked once more where a heartbeat is missing, which may only have been late."""
    answer, heartbeat_s = picture.ask(config), config.timing.heartbeat_s
    if picture.is_silent(answer, heartbeat_s):
        time.sleep(heartbeat_s)
        answer = picture.ask(config)
    return answer


def _lines(found: Look) -> list[str]:
    notes = [f"! {note}" for note in found.notes]
    return [f"hitmesh status, {moment(time.time())}", *notes, "", *picture.table(found.shown).splitlines()]


def _json_lines(found: Look) -> list[str]:
    return [json.dumps([picture.as_json(each) for each in found.shown])]

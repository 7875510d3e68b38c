"""`hitmesh down`: stops a mesh, balancers first, stores last."""

from __future__ import annotations

import contextlib
from pathlib import Path

import click

from hitmesh.cli import folder
from hitmesh.cli.layout import STOP_GRACE_S
from hitmesh.cli.options import state_dir_option
from hitmesh.cli.stderr import show, warn
from hitmesh.cli.supervision import STOP_ORDER, Supervisor
from hitmesh.config import Timing, load
from hitmesh.errors import CommandError, ConfigError


@click.command(short_help="Drain and stop it.")
@state_dir_option
def down(state_dir: Path) -> None:
    """Drain and stop the mesh of a state folder; its totals and spools stay.

    Where nothing runs it says so and succeeds: that is what was asked for.

    \b
    Example:
      hitmesh down --state-dir /srv/hitmesh
    """
    supervisor = Supervisor(state_dir)
    if not supervisor.processes():
        folder.config_paths(state_dir)  # says when it isn't ours to know
        print(f"no mesh runs in {state_dir}")
        return
    stop(supervisor, state_dir)
    print(f"stopped the mesh in {state_dir}")


def stop(supervisor: Supervisor, state_dir: Path) -> None:
    """Stop all of it, within the time its roles have to drain, and say who had to be killed, or had lost its supervisord."""
    within_s = len(STOP_ORDER) * (_drain_s(state_dir) + STOP_GRACE_S)
    stopped = supervisor.stop(within_s, lambda names: show(f"stopping {names}"))
    if stopped.killed:
        warn(f"these didn't stop by themselves: {', '.join(stopped.killed)}")
    if stopped.left:
        warn(f"supervisord had left these running, which have ended now: {', '.join(stopped.left)}")


def _drain_s(state_dir: Path) -> float:
    """How long the roles may take to drain; where a configuration is gone or wrong, as long as by default."""
    found = [Timing().drain_s]
    with contextlib.suppress(CommandError):
        for path in folder.config_paths(state_dir):
            with contextlib.suppress(ConfigError):
                found.append(load(path).timing.drain_s)
    return max(found)

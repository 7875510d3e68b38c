"""`hitmesh down`: stops a mesh, balancers first, stores last."""

from __future__ import annotations

from pathlib import Path

import click

from hitmesh.cli import folder
from hitmesh.cli.layout import STOP_GRACE_S
from hitmesh.cli.options import state_dir_option
from hitmesh.cli.stderr import show, warn
from hitmesh.cli.supervision import STOP_ORDER, Supervisor


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
    if supervisor.pid() is None and not supervisor.strays():
        print(f"no mesh runs in {state_dir}")
        return
    stop(supervisor, state_dir)
    print(f"stopped the mesh in {state_dir}")


def stop(supervisor: Supervisor, state_dir: Path) -> None:
    """Stop all of it, within the time its roles have to drain, and say who had to be killed."""
    drain_s = max((config.timing.drain_s for config in folder.datacenters(state_dir)), default=0.0)
    within_s = len(STOP_ORDER) * (drain_s + STOP_GRACE_S)
    killed = supervisor.stop(within_s, lambda names: show(f"stopping {names}"))
    if killed:
        warn(f"these didn't stop by themselves: {', '.join(killed)}")

"""`hitmesh scale`: more or fewer instances of a role on a running mesh, through supervisord."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import click
import msgspec

from hitmesh.cli import folder
from hitmesh.cli.layout import MAX_INSTANCES, Wanted
from hitmesh.cli.options import json_option, state_dir_option
from hitmesh.cli.progress import Progress
from hitmesh.cli.scaling import Done, Scaling, by_hand, changes
from hitmesh.cli.sizes import Counts, asked_for, resized
from hitmesh.cli.supervision import Supervisor
from hitmesh.cli.up import check_ports
from hitmesh.config import ROLES, Config, Role, ports_of
from hitmesh.errors import CommandError
from hitmesh.mistakes import nearest

Changed = Mapping[Role, tuple[int, int]]


@click.command(short_help="Run more or fewer instances of a role.")
@click.argument("words", metavar="ROLE=N...", nargs=-1, required=True)
@click.option("--dc", metavar="NAME", help="The datacenter; needed when there are several.")
@state_dir_option
@json_option
def scale(words: tuple[str, ...], dc: str | None, state_dir: Path, as_json: bool) -> None:
    """Run N collectors, processors, balancers or dashboards in a datacenter of a running mesh.

    What is new is started, and waited for until it works; processors until each owns its share of
    the partitions. What is too much is drained and stopped one after the other, the highest numbers
    first. The next `hitmesh up` in the same folder starts as many. When something fails half-way,
    the same command again finishes.

    \b
    Example:
      hitmesh scale --dc eu-west collector=4 processor=3
    """
    counts = asked_for(words)
    supervisor = Supervisor(state_dir)
    with folder.alone(state_dir, "scale"):
        config = _running(supervisor, state_dir, dc)
        _refuse_scaled(config, counts)
        wanted = resized(config, counts, limits=MAX_INSTANCES, source=config.name)
        scaling = Scaling(wanted, counts, state_dir, supervisor)
        _check(wanted, scaling)
        began = time.monotonic()
        _carry_out(scaling, config)
    changed, seconds = changes(config, wanted, counts), time.monotonic() - began
    if as_json:
        roles = {role: {"from": old, "to": new} for role, (old, new) in changed.items()}
        done = msgspec.to_builtins(scaling.done)
        print(json.dumps({"dc": config.name, "roles": roles, **done, "seconds": round(seconds, 3)}, indent=2))
    else:
        print(_text(config.name, changed, scaling.done, seconds))


def _carry_out(scaling: Scaling, earlier: Config) -> None:
    scaling.write_down(earlier)
    progress = Progress()
    try:
        scaling.grow(progress)
        scaling.shrink(progress)
    except (CommandError, KeyboardInterrupt) as error:
        why = str(error) or "interrupted"
        left = f"; still {todo}" if (todo := scaling.still_to_do()) else ""
        raise CommandError(
            f"{why}; so far {_done_text(scaling.done) or 'nothing was started or stopped'}{left}",
            hint="the configuration says what is wanted: the same command again goes on",
        ) from error
    finally:
        progress.end()


def _running(supervisor: Supervisor, state_dir: Path, dc: str | None) -> Config:
    """The configuration of the datacenter that is meant, which runs."""
    configs = {config.name: config for config in folder.datacenters(state_dir)}
    programs = supervisor.programs()
    if programs is None:
        raise CommandError(
            f"no mesh runs in {state_dir}, or its supervisord doesn't answer", hint="see `hitmesh status`"
        )
    running = sorted({each.dc for each in programs} & configs.keys())
    if dc is None:
        if len(running) != 1:
            raise CommandError(f"which datacenter? Here run {', '.join(running)}", hint="--dc NAME")
        dc = running[0]
    if dc not in running:
        raise CommandError(f"no datacenter {dc!r} runs in {state_dir}", hint=nearest(dc, running))
    return configs[dc]


def _refuse_scaled(config: Config, counts: Counts) -> None:
    """Raise CommandError for a role whose number a scaler changes: it would undo what is asked for."""
    for role in counts:
        if config.spares(role):
            raise CommandError(
                f"a scaler says how many of {role} run in {config.name}",
                hint=f"`hitmesh config set scaler.{role}.min N` has it run at least N, and scaler.{role}.max at most",
            )


def _check(wanted: Config, scaling: Scaling) -> None:
    """Refuse what can't work before anything has changed."""
    names = scaling.starting()
    if found := by_hand(wanted, names):
        raise CommandError(
            f"started by hand, and alive: {', '.join(found)}", hint="stop them first, or start them under other names"
        )
    placements = [each for role in ROLES for each in wanted.instances(role) if each.name in names]
    check_ports(
        [Wanted(each.address, port, f"{wanted.name}-{each.name}") for each in placements for port in ports_of(each)]
    )


def _text(dc: str, changed: Changed, done: Done, seconds: float) -> str:
    roles = ", ".join(
        f"{role} {old} -> {new}" if old != new else f"{role} {new}" for role, (old, new) in changed.items()
    )
    shares = f", of which {done.owns_after_s:.1f} s until each processor had its share" if done.owns_after_s else ""
    return f"{dc}: {roles}: {_done_text(done) or 'nothing to do'} in {seconds:.1f} s{shares}"


def _done_text(done: Done) -> str:
    lists: list[tuple[str, Sequence[str]]] = [("started", done.started), ("stopped", done.stopped)]
    return ", ".join(f"{what} {', '.join(names)}" for what, names in lists if names)

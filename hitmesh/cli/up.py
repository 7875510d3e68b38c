"""`hitmesh up`: a whole mesh on this machine, under a supervisord of its own.

What it consists of is decided in `layout`; here it is checked that it can run, written, started
and waited for.
"""

from __future__ import annotations

import os
import resource
import shlex
import shutil
import signal
import socket
import stat
import sys
import sysconfig
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

import click

from hitmesh import config as settings
from hitmesh.cli import check_config, endpoints, folder, keyfolder
from hitmesh.cli.demo import demonstrate
from hitmesh.cli.down import stop
from hitmesh.cli.layout import Layout, Options, Wanted, lay_out, supervisor_text
from hitmesh.cli.options import CONFIG_NAME, STATE_DIR, state_dir_option
from hitmesh.cli.processes import named
from hitmesh.cli.readiness import wait_until_ready
from hitmesh.cli.sizes import still_wanted
from hitmesh.cli.stderr import show, warn
from hitmesh.cli.supervision import Supervisor
from hitmesh.errors import CommandError, ConfigError
from hitmesh.startup import PRIVATE

TEMPLATE = "config/dev.toml"
OPEN_FILES = 65_536  # for a balancer's 20,000 connections, as many to its backends, and what the rest needs


@click.command(short_help="Run a whole mesh on this machine under supervisord.")
@click.option(
    "--config",
    "config_path",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help=f"What each datacenter is like, but for its name and ports.  [default: {TEMPLATE}]",
)
@click.option("--dcs", default="eu-west,us-west", show_default=True, metavar="NAMES", help="The datacenters.")
@state_dir_option
@click.option(
    "--base-port",
    type=click.IntRange(1, 65_000),
    default=8000,
    show_default=True,
    metavar="N",
    help="The first port; each datacenter takes a hundred.",
)
@click.option("--consul", is_flag=True, help="Totals and settings in a Consul server per datacenter, joined over WAN.")
@click.option("--beanstalkd", is_flag=True, help="Spools in a pair of beanstalkd per datacenter.")
@click.option("--demo", is_flag=True, help="Once ready, count a few hits and show their totals.")
@click.option("-d", "--detach", is_flag=True, help="Return when every role is ready.")
def up(
    config_path: Path | None,
    dcs: str,
    state_dir: Path,
    base_port: int,
    consul: bool,
    beanstalkd: bool,
    demo: bool,
    detach: bool,
) -> None:
    """Run a whole mesh on this machine under supervisord.

    Each datacenter gets the instances that FILE says, or as many as `hitmesh scale` was told, on
    loopback; together they are one mesh. It is ready when all of them work and every datacenter hears
    every other. Everything it writes is in the state folder; what an earlier mesh counted there stays.
    Without -d it runs until Ctrl-C or SIGTERM, and then stops all of it.

    \b
    Example:
      hitmesh up --dcs eu-west,us-west,ap-south --state-dir /tmp/mesh -d
      supervisorctl -c /tmp/mesh/supervisord.conf status
    """
    source = config_path or folder.shipped(TEMPLATE)
    template = check_config.load(source)
    names = [name.strip() for name in dcs.split(",")]
    options = Options(
        dcs=names,
        state_dir=state_dir,
        socket=folder.new_socket_path(state_dir),
        base_port=base_port,
        python=sys.executable,
        consul=_program("consul") if consul else None,
        beanstalkd=_program("beanstalkd") if beanstalkd else None,
        open_files=_open_files(),
        counts={name: still_wanted(folder.sizes(state_dir, name), template) for name in names},
    )
    layout = lay_out(template, options, source=str(source))
    supervisor = Supervisor(state_dir)
    _refuse_a_second(supervisor, state_dir)
    if not state_dir.exists():
        check_ports(layout.ports)  # before anything is made
    _make(state_dir)
    with folder.alone(state_dir, "up"):
        _refuse_a_second(supervisor, state_dir)
        _check_partitions(layout, state_dir)
        check_ports(layout.ports)
        _write(layout, options)
        for config in layout.datacenters:
            if config.keys:
                keyfolder.make_missing(Path(config.keys), keyfolder.peers_of(config))
        for number in (signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, _interrupt)
        began = time.monotonic()
        process = supervisor.start(sys.executable, _environment())
    try:
        wait_until_ready(layout.datacenters, supervisor, process, state_dir)
        seconds = time.monotonic() - began
        totals = demonstrate(layout.datacenters, state_dir) if demo else []
        if not detach:
            _announce(layout, options, seconds, totals, detach=False)
            process.wait()
    except KeyboardInterrupt:
        _stop(supervisor, state_dir)
        process.wait()
        return
    except BaseException:
        _stop(supervisor, state_dir)
        process.wait()
        raise
    if detach:
        # Out of the way of what stops it: it runs, even if nobody reads this.
        _announce(layout, options, seconds, totals, detach=True)
        return
    if left := supervisor.strays():
        raise CommandError(
            f"supervisord ended (status {process.returncode}), and these go on: {named(left)}",
            hint=f"`hitmesh down{_where(state_dir)}` stops them",
        )
    # Stopped by somebody else, such as `hitmesh down`.
    show(f"the mesh in {state_dir} was stopped")


def _program(name: str) -> str:
    # Debian puts servers where a user's PATH doesn't look.
    found = shutil.which(name) or shutil.which(name, path="/usr/local/sbin:/usr/sbin:/sbin")
    if found is None:
        raise CommandError(f"--{name}: {name} is not installed", hint="scripts/install-services installs it")
    return found


def _open_files() -> int:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    return OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, OPEN_FILES)


def _refuse_a_second(supervisor: Supervisor, state_dir: Path) -> None:
    supervisor.check_owner()
    pid = supervisor.pid()
    if pid is not None:
        gone = "" if folder.conf_path(state_dir).exists() else ", whose files were moved or deleted"
        raise CommandError(
            f"a mesh runs in {state_dir} already (supervisord has pid {pid}{gone})",
            hint=f"`hitmesh down{_where(state_dir)}` stops it; --state-dir names another folder",
        )
    if strays := supervisor.strays():
        raise CommandError(
            f"left by an earlier mesh in {state_dir}: {named(strays)}",
            hint=f"`hitmesh down{_where(state_dir)}` stops them",
        )


def _check_partitions(layout: Layout, state_dir: Path) -> None:
    for config in layout.datacenters:
        try:
            earlier = settings.load(state_dir / config.name / CONFIG_NAME)
        except ConfigError:
            continue  # there was none, or it is of no use; a store has the last word
        if earlier.partitions != config.partitions:
            raise CommandError(
                f"{config.name} has {earlier.partitions} partitions in {state_dir}, and now {config.partitions}",
                hint="their number can't change; another --state-dir starts anew",
            )


def check_ports(ports: Sequence[Wanted]) -> None:
    """Raise CommandError when somebody listens on one of these."""
    for wanted in ports:
        with socket.socket(socket.AF_INET6 if ":" in wanted.address else socket.AF_INET) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # what is only closing isn't in the way
            try:
                probe.bind((wanted.address, wanted.port))
            except OSError as error:
                raise CommandError(
                    f"port {wanted.port} of {wanted.address}, for {wanted.who}, can't be had: {error.strerror}",
                    hint="--base-port moves all of them",
                ) from error


def _make(state_dir: Path) -> None:
    """Make the state folder, or make what is there its owner's alone."""
    try:
        state_dir.mkdir(parents=True, exist_ok=True)
        found = state_dir.stat()
        if found.st_uid == os.geteuid() and not found.st_mode & stat.S_ISVTX:  # one like /tmp is everybody's
            state_dir.chmod(0o700)
    except OSError as error:
        raise CommandError(f"{error.filename or state_dir}: can't be made: {error.strerror}") from error


def _make_private(folder: Path) -> None:
    """Take a folder that an earlier version made, and what is in it, from everybody else."""
    for path, _, names in os.walk(folder):
        for each in (Path(path), *(Path(path, name) for name in names)):
            if not each.is_symlink():
                each.chmod(stat.S_IMODE(each.stat().st_mode) & ~PRIVATE)


def _write(layout: Layout, options: Options) -> None:
    templates = {
        name: folder.shipped(f"supervisor/{name}.conf").read_text(encoding="utf-8")
        for name in ("supervisord", *{program.role for program in layout.programs})
    }
    try:
        for path in layout.folders:
            path.mkdir(parents=True, exist_ok=True)
            _make_private(path)
        files = {**layout.files, folder.conf_path(options.state_dir): supervisor_text(layout, options, templates)}
        for path, text in files.items():
            folder.replace_text(path, text)  # a disk that is full leaves what was there
    except OSError as error:
        raise CommandError(f"{error.filename or options.state_dir}: can't be written: {error.strerror}") from error


def _environment() -> dict[str, str]:
    """Ours, so that the roles run this very code: they don't start in this folder."""
    paths = [str(Path(path).resolve()) for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]
    root = str(Path(__file__).parents[2])
    if root != sysconfig.get_path("purelib"):
        paths.append(root)
    # Another supervisord's, under which this command may run, would name its programs as ours.
    inherited = {key: value for key, value in os.environ.items() if not key.startswith("SUPERVISOR_")}
    # Safe: nothing is imported from the folder in which they work, which is the state folder.
    ours = {"PYTHONUNBUFFERED": "1", "PYTHONSAFEPATH": "1", "PYTHONPATH": os.pathsep.join(paths)}
    return inherited | ours


def _where(state_dir: Path) -> str:
    """What a command needs besides, to mean this folder."""
    return "" if state_dir == STATE_DIR.resolve() else f" --state-dir {shlex.quote(str(state_dir))}"


def _interrupt(_number: int, _frame: object) -> NoReturn:
    raise KeyboardInterrupt


def _stop(supervisor: Supervisor, state_dir: Path) -> None:
    try:
        stop(supervisor, state_dir)
    except KeyboardInterrupt:
        warn("not waiting any longer")
        supervisor.stop(0.0, lambda _: None)


def _announce(layout: Layout, options: Options, seconds: float, totals: Sequence[str], *, detach: bool) -> None:
    state_dir = options.state_dir
    names = ", ".join(config.name for config in layout.datacenters)
    print(
        f"ready in {seconds:.1f} s: {names}, {sum(not each.is_spare for each in layout.programs)} processes in {state_dir}"
    )
    for dc, counts in options.counts.items():
        if counts:
            print(f"{dc}: {', '.join(f'{role}={n}' for role, n in counts.items())}, as `hitmesh scale` was told")
    found = {config.name: endpoints.by_role(config) for config in layout.datacenters}
    print(endpoints.text(found))
    first = endpoints.front(layout.datacenters[0])[0]
    print(f"count a hit:  curl -X POST {first}/hit/example.com/front")
    if dashboard := endpoints.dashboard(found):
        print(f"look at it:   {dashboard}")
    print(f"stop it:      hitmesh down{_where(state_dir)}" if detach else "stop it:      Ctrl-C")
    if totals:
        print("\n".join(["totals of a few hits:", *totals]))
    sys.stdout.flush()

"""hitmesh on hosts: `fab TASK:dc=NAME,...`, where config/NAME.toml says what runs where. See docs/operations.

`fab --set config=DIR,var=DIR` takes the datacenters' files from elsewhere, and builds releases elsewhere.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import shlex
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from fabric.api import env
from fabric.tasks import WrappedCallableTask

from hitmesh.deploy import backups, deploying, tasks
from hitmesh.deploy.desk import Desk, desk, siblings
from hitmesh.deploy.ssh import opened
from hitmesh.errors import HitmeshError

CHECKOUT = Path(__file__).parent


class Job(WrappedCallableTask):  # type: ignore[misc]  # Fabric has no types
    """A task that runs once, here, and is given all that was typed.

    `role=` and its like are Fabric's own arguments: it would run a task once for each host of that role.
    """

    def get_hosts_and_effective_roles(
        self, hosts: Sequence[str], roles: Sequence[str], exclude_hosts: Sequence[str], env: Any = None
    ) -> tuple[list[str], list[str]]:
        """None, so that it runs once; they are kept for the task."""
        typed = {"host": hosts, "role": roles, "exclude_hosts": exclude_hosts}
        usual = {"host": "hosts", "role": "roles", "exclude_hosts": "exclude_hosts"}  # fab -H, -R and -x
        typed = {name: words or (env or {}).get(usual[name]) or () for name, words in typed.items()}
        self.typed = {name: ";".join(words) for name, words in typed.items() if words}
        return [], []

    def run(self, *args: str, **kwargs: str) -> None:
        """Run it with them; whatever ends it is a Ctrl-C, so that it takes back and closes what it has begun."""
        for number in (signal.SIGTERM, signal.SIGHUP):
            if signal.getsignal(number) is signal.SIG_DFL:  # not below nohup
                signal.signal(number, signal.default_int_handler)
        super().run(*args, **kwargs, **self.typed)


def job(function: Callable[..., None]) -> Job:
    """A task whose wrong use is one line, and status 2."""

    @functools.wraps(function)
    def checked(*args: str, **kwargs: str) -> None:
        try:
            inspect.signature(function).bind(*args, **kwargs)
        except TypeError as error:
            print(
                f"fab: {function.__name__}: {error}; such as {str(function.__doc__).partition('  ')[0]}",
                file=sys.stderr,
            )
            sys.exit(2)
        function(*args, **kwargs)

    return Job(checked)


@job
def check(dc: str, firewall: str = "") -> None:
    """fab check:dc=us-west  what is wrong there, and what would be written (firewall=1: its rules)"""
    with _mesh(dc) as (it, others):
        tasks.check(it, others, firewall=_yes(firewall))


@job
def bootstrap(dc: str, only: str = "") -> None:
    """fab bootstrap:dc=us-west  users, folders, Consul, beanstalkd (only=HOST)"""
    with (
        _mesh(dc) as (it, others),
        opened(list(it.fleet.hosts), it.config.deploy.bootstrap_user, _ssh_config()) as root,
    ):
        tasks.bootstrap(it, root, _releases(), CHECKOUT, only=only, others=others)


@job
def deploy(
    dc: str, dry: str = "", only: str = "", version: str = "", force: str = "", *, role: str | None = None
) -> None:
    """fab deploy:dc=us-west  bring this checkout there, the canary first

    dry=1 shows the plan and what would change in files; only=HOST, role=ROLE leave the others as they are;
    version=ID takes a release that was built before; force=1 one that was rolled back.
    """
    with _mesh(dc) as (it, others):
        deploying.deploy(
            it, _releases(), CHECKOUT, others=others, dry=_yes(dry), only=only, version=version, force=_yes(force),
            roles=[] if role is None else role.split(";"),
        )  # fmt: skip


@job
def rollback(dc: str, dry: str = "") -> None:
    """fab rollback:dc=us-west  go back to the release before"""
    with _at(dc) as it:
        deploying.rollback(it, _releases(), CHECKOUT, dry=_yes(dry))


@job
def status(dc: str) -> None:
    """fab status:dc=us-west  what runs where, who is at work, what was done"""
    with _at(dc) as it:
        tasks.status(it)


@job
def scale(dc: str, count: str, dry: str = "", *, role: str) -> None:
    """fab scale:dc=us-west,role=collector,count=4  in the file, and there"""
    with _at(dc) as it:
        changed = tasks.scale(it, role, _number(count), dry=_yes(dry))
        release = tasks.most_used(it)
    if changed and not _yes(dry):
        with _mesh(dc) as (it, others):  # as the file says now
            deploying.deploy(it, _releases(), CHECKOUT, others=others, version=release, what="scale")


@job
def releases(dc: str) -> None:
    """fab releases:dc=us-west  which are on the hosts"""
    with _at(dc) as it:
        tasks.releases(it)


@job
def logs(dc: str, name: str, lines: str = "50") -> None:
    """fab logs:dc=us-west,name=collector-1  their end (lines=200; a role)"""
    with _at(dc) as it:
        tasks.logs(it, name, _number(lines))


@job
def keys(dc: str, rotate: str = "", revoke: str = "") -> None:
    """fab keys:dc=us-west  make and bring them (rotate=1; revoke=DC/ROLE/NAME)"""
    with _mesh(dc) as (it, others):
        tasks.keys(it, others, rotate=_yes(rotate), revoke=revoke)


@job
def stop(dc: str) -> None:
    """fab stop:dc=us-west  drain and stop balancers, collectors, processors"""
    with _at(dc) as it:
        tasks.stop(it)


@job
def start(dc: str) -> None:
    """fab start:dc=us-west  start them again"""
    with _at(dc) as it:
        tasks.start(it)


@job
def finalize(dc: str) -> None:
    """fab finalize:dc=us-west  write the new formats; no older release then"""
    with _at(dc) as it:
        tasks.finalize(it)


@job
def backup(dc: str) -> None:
    """fab backup:dc=us-west  totals, settings and routes, to deploy.backup.to"""
    with _at(dc) as it:
        tasks.backup(it)


@job
def restore(dc: str, file: str) -> None:
    """fab restore:dc=us-west,file=newest  into a mesh without totals"""
    with _mesh(dc) as (it, others):
        tasks.restore(it, others, file)


@job
def drill(dc: str, file: str = "newest") -> None:
    """fab drill:dc=us-west  try the newest backup, page by page"""
    with _at(dc) as it:
        backups.drill(it, file)


@job
def unlock(dc: str) -> None:
    """fab unlock:dc=us-west  break the lock of a deploy that died"""
    with _at(dc) as it:
        tasks.unlock(it)


@job
def hitmesh(dc: str, args: str) -> None:
    """fab hitmesh:dc=us-west,args="audit"  any hitmesh command there"""
    with _at(dc) as it:
        sys.exit(it.run_terminal(*shlex.split(args)))


def _releases() -> Path:
    return Path(env.get("var") or CHECKOUT / "var") / "releases"


@contextlib.contextmanager
def _at(dc: str) -> Iterator[Desk]:
    """The desk of a datacenter; an error is one line, and status 1."""
    folder = Path(env.get("config") or CHECKOUT / "config")
    try:
        with desk(dc, folder, print, ssh_config=_ssh_config()) as it:
            yield it
    except HitmeshError as error:
        print(f"fab: {error}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        print("fab: interrupted", file=sys.stderr)
        sys.exit(130)


@contextlib.contextmanager
def _mesh(dc: str) -> Iterator[tuple[Desk, list[Desk]]]:
    """The desk of a datacenter, and those of the others whose files are beside its own."""
    with _at(dc) as it, contextlib.ExitStack() as stack:
        yield it, [stack.enter_context(_at(name)) for name in siblings(it)]


def _ssh_config() -> Path | None:
    """What `--ssh-config-path` names; ssh itself reads the usual one, and the system's besides."""
    path = Path(env.ssh_config_path).expanduser()
    return path if path.is_file() and path != Path.home() / ".ssh" / "config" else None


def _yes(text: Any) -> bool:
    return str(text).lower() in ("1", "yes", "true", "on")


def _number(text: str) -> int:
    if not text.isdecimal():
        print(f"fab: {text!r} is not a number", file=sys.stderr)
        sys.exit(2)
    return int(text)

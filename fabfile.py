"""hitmesh on hosts: `fab TASK:dc=NAME,...`, where config/NAME.toml says what runs where. See docs/operations.

`fab --set config=DIR,var=DIR` takes the datacenters' files from elsewhere, and builds releases elsewhere.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import os
import shlex
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn

import msgspec
from fabric.api import env
from fabric.tasks import WrappedCallableTask

from hitmesh.deploy import arguments, backups, deploying, tasks
from hitmesh.deploy.arguments import WrongUse
from hitmesh.deploy.desk import Desk, desk, siblings
from hitmesh.deploy.ssh import opened
from hitmesh.errors import HitmeshError
from hitmesh.visible import visible

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
    """A task that is given each argument as what its signature says; whatever is wrong is one line, and a status."""
    signature = inspect.signature(function)

    @functools.wraps(function)
    def checked(*args: str, **kwargs: str) -> None:
        with _one_line():
            try:
                given = signature.bind(*args, **kwargs)
            except TypeError as error:
                example = str(function.__doc__).partition("  ")[0]
                raise WrongUse(f"{function.__name__}: {error}; such as {example}") from error
            kinds = {name: signature.parameters[name].annotation for name in given.arguments}
            typed = {name: arguments.converted(name, text, kinds[name]) for name, text in given.arguments.items()}
            given.arguments.update(typed)
            function(*given.args, **given.kwargs)

    return Job(checked)


@contextlib.contextmanager
def _one_line() -> Iterator[None]:
    """An error is one line and status 1, wrong use status 2, Ctrl-C 130."""
    try:
        yield
    except HitmeshError as error:
        _end(2 if isinstance(error, WrongUse) else 1, str(error))
    except OSError as error:  # of a file of the operator's, or a program that isn't there
        _end(1, f"{error.filename}: {error.strerror}" if error.filename else str(error))
    except (msgspec.MsgspecError, UnicodeError) as error:
        _end(1, f"what was answered can't be read: {error}")
    except KeyboardInterrupt:
        _end(130, "interrupted")


def _end(status: int, why: str) -> NoReturn:
    print(f"fab: {visible(why)}", file=sys.stderr)
    sys.exit(status)


def _tell(text: str) -> None:
    """Show what a task says, line by line; what hosts and files have in theirs moves no cursor."""
    for line in text.split("\n"):
        print(visible(line.expandtabs()))


@job
def check(dc: str, firewall: bool = False) -> None:
    """fab check:dc=us-west  what is wrong there, and what would be written (firewall=1: its rules)"""
    with _mesh(dc) as (it, others):
        tasks.check(it, others, firewall=firewall)


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
    dc: str, dry: bool = False, only: str = "", version: str = "", force: bool = False, *, role: str | None = None
) -> None:
    """fab deploy:dc=us-west  bring this checkout there, the canary first

    dry=1 shows the plan and what would change in files; only=HOST, role=ROLE leave the others as they are;
    version=ID takes a release that was built before; force=1 one that was rolled back.
    """
    with _mesh(dc) as (it, others):
        deploying.deploy(
            it, _releases(), CHECKOUT, others=others, dry=dry, only=only, version=version, force=force,
            roles=[] if role is None else role.split(";"),
        )  # fmt: skip


@job
def rollback(dc: str, dry: bool = False) -> None:
    """fab rollback:dc=us-west  go back to the release before"""
    with _at(dc) as it:
        deploying.rollback(it, _releases(), CHECKOUT, dry=dry)


@job
def status(dc: str) -> None:
    """fab status:dc=us-west  what runs where, who is at work, what was done"""
    with _at(dc) as it:
        tasks.status(it)


@job
def scale(dc: str, count: int, dry: bool = False, *, role: str) -> None:
    """fab scale:dc=us-west,role=collector,count=4  in the file, and there"""
    with _mesh(dc) as (it, others):
        tasks.scale(it, others, _releases(), CHECKOUT, role, count, dry=dry)


@job
def releases(dc: str) -> None:
    """fab releases:dc=us-west  which are on the hosts"""
    with _at(dc) as it:
        tasks.releases(it)


@job
def logs(dc: str, name: str, lines: int = tasks.LOG_LINES) -> None:
    """fab logs:dc=us-west,name=collector-1  their end (lines=200; a role)"""
    with _at(dc) as it:
        tasks.logs(it, name, lines)


@job
def keys(dc: str, rotate: bool = False, revoke: str = "") -> None:
    """fab keys:dc=us-west  make and bring them (rotate=1; revoke=DC/ROLE/NAME)"""
    if rotate and revoke:
        raise WrongUse("rotate and revoke are two things", hint="give one of them")
    with _mesh(dc) as (it, others):
        tasks.keys(it, others, rotate=rotate, revoke=revoke)


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
    try:
        words = shlex.split(args)
    except ValueError as error:
        raise WrongUse(f"args={arguments.shown(args)} has no end: {error}") from error
    with _at(dc) as it:
        sys.exit(it.run_terminal(*words))


def _releases() -> Path:
    return _folder("var") / "releases"


@contextlib.contextmanager
def _at(dc: str) -> Iterator[Desk]:
    """The desk of a datacenter."""
    with desk(dc, _folder("config"), _tell, ssh_config=_ssh_config()) as it:
        yield it


@contextlib.contextmanager
def _mesh(dc: str) -> Iterator[tuple[Desk, list[Desk]]]:
    """The desk of a datacenter, and those of the others whose files are beside its own."""
    with _at(dc) as it, contextlib.ExitStack() as stack:
        yield it, [stack.enter_context(_at(name)) for name in siblings(it)]


def _ssh_config() -> Path | None:
    """What `--ssh-config-path` names; ssh itself reads the usual one, and the system's besides. Raises WrongUse."""
    typed = str(env.ssh_config_path)
    path = Path(os.path.expanduser(typed))  # noqa: PTH111 - Path's own raises for a user that isn't there
    if path == Path.home() / ".ssh" / "config":
        return None
    if not path.is_file():
        raise WrongUse(f"--ssh-config-path={arguments.shown(typed)} is not a file")
    return path


def _folder(name: str) -> Path:
    """What `--set NAME=DIR` names; the checkout's own otherwise. Raises WrongUse."""
    path = env.get(name, CHECKOUT / name)
    if not isinstance(path, str | Path) or not str(path):  # `--set config` is true to Fabric, and `--set config=` empty
        raise WrongUse(f"--set {name} names no folder", hint=f"--set {name}=DIR")
    return Path(path)


with _one_line():  # Fabric has put there what was typed, and reads it next
    arguments.check(env.get("tasks") or (), [name for name, each in globals().items() if isinstance(each, Job)])

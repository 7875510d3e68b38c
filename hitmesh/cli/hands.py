"""`hitmesh drain`, `undrain` and `weight`: one instance or backend, by a live setting that outlasts whoever is told.

Owns who is asked before that is written and what is waited for after it; the rules are in `hitmesh.state.handling`.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

import click
from msgspec import Struct
from msgspec.structs import replace

from hitmesh.cli import picture
from hitmesh.cli.config import Place, change, configs_of, opened, routes_of, values_of
from hitmesh.cli.options import Seconds, config_option, state_dir_option
from hitmesh.cli.progress import Progress
from hitmesh.cli.stderr import warn
from hitmesh.config import Config
from hitmesh.config.hands import MAX_PERCENT, THE_VALUE, USUAL_PERCENT, Hands, drained_key, weight_key
from hitmesh.config.live import apply
from hitmesh.errors import CommandError
from hitmesh.protocol.messages import Answer, Instance
from hitmesh.settings import Edition
from hitmesh.state.handling import Known, check_drain, check_name, check_weight, known, left_beside
from hitmesh.state.standing import DRAINED
from hitmesh.visible import visible

ASK_S: Final = 0.2  # between two questions whether it has drained

_name = click.argument("name", metavar="NAME")
_dc = click.option("--dc", metavar="NAME", help="Its datacenter, where several have one of that name.")
_within = click.option(
    "--within", "within_s", type=Seconds(0), default=30.0, show_default=True, metavar="S",
    help="Seconds to wait for it to have drained; 0: don't wait.",
)  # fmt: skip


@click.command(short_help="Give an instance or backend no new work.")
@_name
@click.option("--force", is_flag=True, help="Even if it is the last one of its kind.")
@_within
@_dc
@config_option
@state_dir_option
def drain(name: str, force: bool, within_s: float, dc: str | None, config_path: Path | None, state_dir: Path) -> int:
    """Give the instance NAME, or the backend HOST:PORT that a route names, no new work until `hitmesh undrain`.

    A collector or dashboard gets no new requests from balancers, finishes those that it has, and goes on counting what
    it has spooled. A processor gives its partitions to the others. It runs on, and it is still drained after a restart.

    Status 1: refused; or it is set, and hasn't drained yet.

    \b
    Example:
      hitmesh drain collector-1 --dc eu-west
    """
    with _of(name, dc, config_path, state_dir) as found:
        key = drained_key(found.place.config.name, name)
        check_drain(name, found.everybody, found.hands(), force=force)
        status = change(found.place, found.editions, key, THE_VALUE)
        if not force and not found.is_drained(name):
            _check_left(found, key, name)
        role = found.role(name)
        if within_s and role == "processor" and not found.has_another(name):
            return _stays(found.place.config, name)
        if within_s and role in ("collector", "processor") and _asked(found.place.config, name) is not None:
            status = _wait_drained(found.place.config, name, within_s) or status
    return status


@click.command(short_help="Let a drained one work again.")
@_name
@_dc
@config_option
@state_dir_option
def undrain(name: str, dc: str | None, config_path: Path | None, state_dir: Path) -> int:
    """Let NAME, which was drained, take new work again. It needs no restart.

    \b
    Example:
      hitmesh undrain collector-1 --dc eu-west
    """
    with _of(name, dc, config_path, state_dir, is_set=drained_key) as found:
        return change(found.place, found.editions, drained_key(found.place.config.name, name), None)


@click.command(short_help="Set the share of requests that a backend gets.")
@_name
@click.argument("percent", metavar="N", type=click.IntRange(1, MAX_PERCENT))
@_dc
@config_option
@state_dir_option
def weight(name: str, percent: int, dc: str | None, config_path: Path | None, state_dir: Path) -> int:
    """Set the share of a balancer's requests that NAME gets to N percent of what it would get by itself.

    NAME is a collector's, a dashboard's, or HOST:PORT of a backend that a route names. 100 takes the word back. What a
    balancer finds out (a busy hub, a slow start) counts besides. A route with `sticky` takes no notice of weights.

    \b
    Example:
      hitmesh weight collector-1 25 --dc eu-west
    """
    with _of(name, dc, config_path, state_dir, is_set=weight_key) as found:
        if percent != USUAL_PERCENT:
            check_weight(name, found.everybody)
        key = weight_key(found.place.config.name, name)
        return change(found.place, found.editions, key, None if percent == USUAL_PERCENT else str(percent))


class _Found(Struct):
    """The datacenter that has the one who is meant."""

    place: Place
    editions: Mapping[str, Edition]
    everybody: Sequence[Known]

    def hands(self) -> Hands:
        """What was said of them, when they were asked."""
        return apply(self.place.config, values_of(self.editions)).hands

    def is_drained(self, name: str) -> bool:
        """Whether that was so when they were asked."""
        return name in self.hands().drained

    def has_another(self, name: str) -> bool:
        """Whether somebody takes over what it has: of its kind, up and not drained."""
        return any(left_beside(one, self.everybody, self.hands()) for one in self.everybody if one.name == name)

    def role(self, name: str) -> str:
        return next((one.role for one in self.everybody if one.name == name), "")


@contextlib.contextmanager
def _of(
    name: str,
    dc: str | None,
    config_path: Path | None,
    state_dir: Path,
    *,
    is_set: Callable[[str, str], str] | None = None,
) -> Iterator[_Found]:
    """The one datacenter that has NAME. `is_set` makes the key by which somebody who has gone may be known still."""
    configs = configs_of(config_path, state_dir)
    if dc is not None and dc not in [each.name for each in configs]:
        raise CommandError(f"there is no datacenter {dc}; known here: {', '.join(each.name for each in configs)}")
    everybody: list[Known] = []
    having: list[str] = []
    with contextlib.ExitStack() as stack:
        found: dict[str, _Found] = {}
        for config in configs:
            if dc not in (None, config.name):
                continue
            place = stack.enter_context(opened(config_path, config.name, state_dir))
            editions = place.editions()
            answer = picture.ask(config)
            here = known(config, _living(answer), routes_of(config, editions))
            everybody += here
            found[config.name] = _Found(place, editions, here)
            edition = editions.get(is_set(config.name, name)) if is_set is not None else None
            if any(one.name == name for one in here) or (edition is not None and edition.value is not None):
                having.append(config.name)
        if not having:
            check_name(name, everybody)
        if len(having) > 1:
            raise CommandError(f"{name} is in {' and in '.join(having)}", hint="--dc says which one is meant")
        yield found[having[0]]


def _check_left(found: _Found, key: str, name: str) -> None:
    """Take a drain back if another one, written in the same moment, has left nobody of its kind. Raises CommandError then."""
    editions = found.place.editions()
    hands = apply(found.place.config, values_of(editions)).hands
    try:
        check_drain(name, found.everybody, replace(hands, drained=hands.drained - {name}), force=False)
    except CommandError as error:
        change(found.place, editions, key, None)
        raise CommandError(
            f"{error.reason}; it works on: others were drained in the same moment", hint=error.hint
        ) from error


def _living(answer: Answer | None) -> list[Instance] | None:
    return None if answer is None else [seen.instance for seen in answer.seen if seen.alive]


def _asked(config: Config, name: str) -> Instance | None:
    """The living instance of this name as its last heartbeat tells of it; None of nobody, or without a Nexus."""
    answer = picture.ask(config)
    return next((one for one in _living(answer) or () if one.name == name), None)


def _wait_drained(config: Config, name: str, within_s: float) -> int:
    """Wait until it has nothing left to do, and say so; the exit status."""
    began, progress = time.monotonic(), Progress()
    try:
        while True:
            one = _asked(config, name)
            left = "it hasn't said so" if one is None or one.state != DRAINED else _left(one)
            after_s = time.monotonic() - began
            if not left:
                print(visible(f"{name} has drained after {after_s:.1f} s"))
                return 0
            if after_s > within_s:
                break
            progress.show(f"{name} drains: {left}")
            time.sleep(ASK_S)
    finally:
        progress.end()
    warn(f"{name} drains, and after {within_s:g} s {left}; it goes on")
    return 1


def _stays(config: Config, name: str) -> int:
    """Say that nobody is there to whom a processor could give anything; the exit status."""
    one = _asked(config, name)
    what = "its partitions stay" if one is None else f"its {len(one.owns)} partitions stay"
    warn(
        f"{name} is drained, and {what} with it: no other processor is up and not drained. The next one that is takes them"
    )
    return 1


def _left(one: Instance) -> str:
    """What it has yet to do, in words."""
    if one.owns:
        return f"it still has {len(one.owns)} partitions"
    jobs = int(one.load.get("jobs", 0))
    return f"it still has {jobs} jobs that aren't committed" if jobs else ""

"""`hitmesh config`: the live settings, in force everywhere without a restart.

Owns the commands and what is refused before anything is written; which settings are live is
`hitmesh.config.live`'s, and who has them in force `hitmesh.cli.in_force`'s. A change is written to
the settings store of one datacenter; its Nexuses see to the others.
"""

from __future__ import annotations

import contextlib
import getpass
import json
import os
import signal
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TypeVar

import click

from hitmesh import config as files
from hitmesh.cli import folder
from hitmesh.cli.in_force import Wait
from hitmesh.cli.live_lines import Line, change_line, entries, json_of, table
from hitmesh.cli.options import Seconds, config_option, json_option, state_dir_option
from hitmesh.cli.program import Program
from hitmesh.cli.stderr import show, warn
from hitmesh.config import Config, Route, parse_stored
from hitmesh.config.hands import is_hand
from hitmesh.config.live import ALERTS, ROUTES, apply, check, check_without
from hitmesh.errors import CommandError, ConfigError, StoreUnknown
from hitmesh.settings import Edition, Setting, SettingsStore, live_settings
from hitmesh.settings.limits import MAX_AUTHOR_CHARS
from hitmesh.visible import visible

F = TypeVar("F", bound=Callable[..., object])

WAIT_S = 5.0  # for a change to be in force everywhere: five times what it takes


def _places(command: F) -> F:
    """Which mesh is meant, and which of its settings stores is asked."""
    for option in (
        config_option,
        click.option("--dc", metavar="NAME", help="Whose settings store is asked; the first one's by default."),
        state_dir_option,
    ):
        command = option(command)
    return command


def _writes(command: F) -> F:
    for option in (
        click.option("--author", metavar="NAME", help="Who changes it; by default USER@HOST."),
        click.option(
            "--expect-version", type=click.IntRange(0), metavar="N", help="Only if it has this version; 0: none."
        ),
        click.option("--wait/--no-wait", default=True, help="Wait until it is in force everywhere. Default: wait."),
    ):
        command = option(command)
    return _places(command)


@click.group(short_help="Show and change settings while the mesh runs.")
def config() -> None:
    """Show and change the live settings: in force in every role of every datacenter within a second.

    \b
    Example:
      hitmesh config set timing.commit_s 0.1
      hitmesh config watch
    """


@config.command("list", short_help="Show all live settings.")
@_places
@json_option
def list_(config_path: Path | None, dc: str | None, state_dir: Path, as_json: bool) -> None:
    """Show every live setting: its value in force, where that comes from, who set it when.

    Routes and retired datacenters are shown as far as they are set.

    \b
    Example:
      hitmesh config list --json | jq '.[] | select(.from == "live")'
    """
    with opened(config_path, dc, state_dir) as place:
        found = entries(place.config, place.editions())
    print(json.dumps([json_of(each) for each in found], indent=2) if as_json else table(found))


@config.command(short_help="Show one setting.")
@click.argument("key", metavar="KEY")
@_places
@json_option
def get(key: str, config_path: Path | None, dc: str | None, state_dir: Path, as_json: bool) -> None:
    """Show the value of KEY that is in force.

    \b
    Example:
      hitmesh config get timing.commit_s
    """
    with opened(config_path, dc, state_dir) as place:
        editions = place.editions()
        found: Mapping[str, Line] = {each.key: each for each in entries(place.config, editions)}
        if key not in found:
            check_without(key, place.config, {})  # says what is wrong with the key, if anything
            raise CommandError(f"{key} is not set in {place.config.name}")
    print(json.dumps(json_of(found[key])) if as_json else visible(found[key].value))


# A number below 0 is a value, though it looks like an option.
@config.command("set", short_help="Change a setting.", context_settings={"ignore_unknown_options": True})
@click.argument("key", metavar="KEY")
@click.argument("value", metavar="VALUE")
@_writes
def set_(
    key: str,
    value: str,
    author: str | None,
    expect_version: int | None,
    wait: bool,
    config_path: Path | None,
    dc: str | None,
    state_dir: Path,
) -> int:
    """Set KEY to VALUE everywhere. A wrong one is refused, and changes nothing.

    VALUE is written as in a datacenter's file; of routes/HOST it is the route as JSON.

    Status 1: refused; or set, but somebody who is within reach still lacks it after 5 s.

    \b
    Example:
      hitmesh config set timing.commit_s 0.1
      hitmesh config set routes/old.example.com '{"action": "redirect", "to": "https://example.com"}'
    """
    with opened(config_path, dc, state_dir) as place:
        editions = place.editions()
        text = _checked(key, value, place.configs, editions)
        if is_hand(key):
            from hitmesh.cli.hand_check import check_hand  # which asks the mesh, as no other setting does

            check_hand(key, place, editions, config_path, state_dir)
        began_s = time.monotonic()
        setting = place.store.set(key, text.encode(), author=author or me(), expect_version=expect_version)
        print(change_line(place.config, key, editions.get(key), edition_of(setting)))
        return wait_in_force(place, values_of(editions) | {key: text}, setting.version, began_s) if wait else 0


@config.command(short_help="Go back to what the file says.")
@click.argument("key", metavar="KEY")
@_writes
def unset(
    key: str,
    author: str | None,
    expect_version: int | None,
    wait: bool,
    config_path: Path | None,
    dc: str | None,
    state_dir: Path,
) -> int:
    """Delete the live setting KEY everywhere: what each datacenter's file says, or the default, is in force again.

    \b
    Example:
      hitmesh config unset timing.commit_s
    """
    with opened(config_path, dc, state_dir) as place:
        editions = place.editions()
        if key not in live_settings(editions):
            check_without(key, place.config, {})
        for each in place.configs:
            with _named(each, place.configs):
                check_without(key, each, values_of(editions))
        began_s = time.monotonic()
        if not place.store.delete(key, author=author or me(), expect_version=expect_version):
            print(f"{key} was not set")
            return 0
        now = place.editions()[key]
        print(change_line(place.config, key, editions.get(key), now))
        return wait_in_force(place, values_of(editions, but=key), now.version, began_s) if wait else 0


@config.command(short_help="Show changes as they come, or run a program for each.")
@click.argument("key", metavar="[KEY]", default="")
@click.option("--exec", "command", metavar="PROGRAM", help="Run it for each change, with that as JSON on its stdin.")
@click.option("--timeout", "timeout_s", type=Seconds(0, min_open=True), default=60.0, show_default=True,
              metavar="S", help="Seconds that a run of PROGRAM may take.")  # fmt: skip
@_places
@json_option
def watch(
    key: str,
    command: str | None,
    timeout_s: float,
    config_path: Path | None,
    dc: str | None,
    state_dir: Path,
    as_json: bool,
) -> None:
    """Show each change of a live setting when it comes, one line each, until Ctrl-C.

    KEY is a setting, or the beginning of some up to a dot or a slash, such as `routes/`; all of them by default.

    With --exec, PROGRAM (with arguments, as for a shell) is run for each that is set, and then for each change: with one
    line on its stdin, the object that --json prints. One run after the other; of several changes of a setting during a run
    the last one is told. A run that fails is said, and is not repeated. Ctrl-C lets the one that is under way finish.

    \b
    Example:
      hitmesh config watch --json | jq -r .key
      hitmesh config watch routes/ --exec "/usr/local/bin/tell --by mail"
    """
    program = Program(command, timeout_s) if command is not None else None
    with opened(config_path, dc, state_dir) as place, contextlib.suppress(KeyboardInterrupt):
        if key and not key.endswith((".", "/")):
            check_without(key, place.config, {})  # says what is wrong with the key, if anything
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        known: Mapping[str, Edition] = {}
        is_first = True
        with place.store.watch_editions() as watched:
            for editions in watched:
                found = {each: edition for each, edition in editions.items() if _is_meant(each, key)}
                if is_first:
                    show(f"watching {len(live_settings(found))} live settings of {place.config.name}")
                for each, edition in _changes(known, found):
                    if program is not None and (edition.value is not None or not is_first):
                        line = change_line(place.config, each, known.get(each), edition, as_json=True)
                        program.run(f"{line}\n", each)
                    elif program is None and not is_first:
                        print(
                            change_line(place.config, each, known.get(each), edition, as_json=as_json, with_time=True),
                            flush=True,
                        )
                known, is_first = found, False


class Place:
    """The datacenters that are meant, and the settings store of one of them."""

    def __init__(self, configs: list[Config], chosen: Config, store: SettingsStore) -> None:
        self.configs, self.config, self.store = configs, chosen, store

    def editions(self) -> Mapping[str, Edition]:
        """Every setting as it was last written. Raises CommandError when the store doesn't answer."""
        try:
            return self.store.editions()
        except StoreUnknown as error:
            others = [each.name for each in self.configs if each is not self.config]
            hint = f"; --dc {others[0]} asks another datacenter's" if others else ""
            raise CommandError(f"the settings of {self.config.name} can't be read: {error}{hint}") from error


def configs_of(config_path: Path | None, state_dir: Path) -> list[Config]:
    """The datacenters that are meant: that of a file, or all of the state folder. Raises CommandError or ConfigError."""
    return [files.load(config_path)] if config_path else folder.datacenters(state_dir)


@contextlib.contextmanager
def opened(config_path: Path | None, dc: str | None, state_dir: Path) -> Iterator[Place]:
    """The datacenters of a file or a state folder, and the settings store of the one called `dc`, or the first.

    Raises CommandError when there is none of that name.
    """
    from hitmesh.settings.open import open_settings

    configs = configs_of(config_path, state_dir)
    chosen = next((each for each in configs if dc in (None, each.name)), None)
    if chosen is None:
        raise CommandError(f"there is no datacenter {dc}; known here: {', '.join(each.name for each in configs)}")
    store = open_settings(chosen.stores.settings, state_dir / chosen.name)
    try:
        yield Place(configs, chosen, store)
    finally:
        store.close()


def _checked(key: str, value: str, configs: list[Config], editions: Mapping[str, Edition]) -> str:
    """The value in its one way of writing, right in every datacenter that is known here. Raises ConfigError."""
    others, text = values_of(editions, but=key), value
    for each in configs:
        with _named(each, configs):
            text = check(key, value, apply(each, others).config)
    return text


def routes_of(config: Config, editions: Mapping[str, Edition]) -> Iterator[tuple[str, Route]]:
    """The routes of a datacenter by pattern: those of its file, and over them the live ones."""
    routes = dict(config.routes)
    for key, text in values_of(editions).items():
        if key.startswith(ROUTES):
            pattern = key.removeprefix(ROUTES)
            with contextlib.suppress(ConfigError):  # a balancer leaves it out, and says so
                routes[pattern] = parse_stored(pattern, text.encode("utf-8", "replace"))
    yield from routes.items()


@contextlib.contextmanager
def _named(datacenter: Config, configs: list[Config]) -> Iterator[None]:
    """A mistake that the first datacenter doesn't see is one of this datacenter's."""
    try:
        yield
    except ConfigError as error:
        if datacenter is configs[0]:
            raise
        raise ConfigError(f"in {datacenter.name}: {error.message}") from error


def values_of(editions: Mapping[str, Edition], *, but: str = "") -> dict[str, str]:
    """Live settings as text."""
    live = live_settings(editions)
    return {key: each.value.decode("utf-8", "replace") for key, each in live.items() if key != but}


def edition_of(setting: Setting) -> Edition:
    """What was just written, as others read it."""
    return Edition(setting.key, setting.value, setting.version, setting.author, setting.changed_at)


def me() -> str:
    """Who runs this command, as the author of a change."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # the second since Python 3.13
        user = f"uid-{os.getuid()}"
    name = "".join(each for each in f"{user}@{socket.gethostname()}" if each.isprintable())
    return name[:MAX_AUTHOR_CHARS]


def change(place: Place, editions: Mapping[str, Edition], key: str, value: str | None) -> int:
    """Set a key, or unset it with None, say so, and wait until that is in force; the exit status."""
    before, began_s = editions.get(key), time.monotonic()
    is_set = before is not None and before.value is not None
    if value is None and not is_set:
        print(f"{key} was not set")
        return 0
    if value is not None:
        value = check(key, value, place.config)
        if before is not None and before.value == value.encode():
            print(visible(f"{key} is {value} already, by {before.author}"))
            return 0
        now = edition_of(place.store.set(key, value.encode(), author=me()))
    else:
        place.store.delete(key, author=me())
        now = place.editions()[key]
    print(change_line(place.config, key, before, now))
    others = values_of(editions, but=key)
    return wait_in_force(place, others if value is None else others | {key: value}, now.version, began_s)


def wait_in_force(place: Place, values: Mapping[str, str], version: int, began_s: float) -> int:
    """Wait until the change, after which `values` are live, is in force everywhere, and say so; the exit status."""
    waiting = Wait(place.configs, version, apply(place.config, values).retired)
    waiting.run(within_s=max(0.0, began_s + WAIT_S - time.monotonic()))
    after_s = time.monotonic() - began_s
    for line in waiting.warnings():
        warn(line)
    print(visible(waiting.result(after_s)))
    return 1 if waiting.lacking else 0


def _is_meant(key: str, wanted: str) -> bool:
    return key == wanted or not wanted or (wanted.endswith((".", "/")) and key.startswith(wanted))


def _changes(before: Mapping[str, Edition], now: Mapping[str, Edition]) -> Iterator[tuple[str, Edition]]:
    """What has changed, in the order in which it was written."""
    for key in sorted({*before, *now}, key=lambda each: (now[each].rank if each in now else (), each)):
        if key.startswith(ALERTS):
            continue
        if before.get(key) != now.get(key):
            yield key, now.get(key) or Edition(key, None, 0, "", 0.0)  # removed by hand

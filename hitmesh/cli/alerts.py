"""`hitmesh alerts`: what fires, who silenced what, and whether anybody would be told.

What fires is read where the dashboards remember it, in the settings store of each datacenter; a silence is a live
setting, written to one of them, and its Nexuses see to the others. Nothing here needs a dashboard that runs.
"""

from __future__ import annotations

import contextlib
import json
import re
import time
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from hitmesh import config as files
from hitmesh.cli import folder
from hitmesh.cli.config import me
from hitmesh.cli.live_lines import moment
from hitmesh.cli.options import config_option, json_option, state_dir_option
from hitmesh.cli.stderr import warn
from hitmesh.config import Config
from hitmesh.config.alerts import RULES, Alerts
from hitmesh.config.live import ALERTS
from hitmesh.dashboard.alerts.memory import Firing, Memory, Notice, decode, key_of
from hitmesh.dashboard.alerts.silences import (
    EVERYWHERE,
    MAX_SHOWN,
    MAX_WHY_CHARS,
    SILENCES,
    live_among,
    silence_of,
    silences_among,
    value_of,
)
from hitmesh.dashboard.alerts.silences import key_of as silence_key
from hitmesh.dashboard.status import Silence
from hitmesh.errors import CommandError, SettingConflict, StoreUnknown
from hitmesh.mistakes import nearest
from hitmesh.settings import Setting, SettingsStore
from hitmesh.visible import visible

if TYPE_CHECKING:
    from hitmesh.dashboard.alerts.sending import Way

_SPAN: Final = re.compile(r"([0-9]{1,6})([smhd])")
_SECONDS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
LONGEST_S: Final = 90 * 86_400  # a silence that nobody remembers is a hole


@click.group(short_help="Show alerts, silence them, and try how they are sent.")
def alerts() -> None:
    """Show which alerts fire, silence them for a while, and try whether anybody would be told.

    \b
    Example:
      hitmesh alerts list
      hitmesh alerts silence disk --for 2h --why "Ann makes room"
    """


@alerts.command("list", short_help="Show what fires, and what is silenced.")
@config_option
@click.option("--dc", metavar="NAME", help="Of one datacenter only.")
@state_dir_option
@json_option
def list_(config_path: Path | None, dc: str | None, state_dir: Path, as_json: bool) -> None:
    """Show the alerts that fire in each datacenter, the silences, and each rule as it is configured.

    \b
    Example:
      hitmesh alerts list --json | jq '.firing[] | select(.level == "bad") | .says'
    """
    wall = time.time()
    firing: list[dict[str, Any]] = []
    silences: dict[str, Silence] = {}
    rules: dict[str, object] = {}
    failed = 0
    configs = _configs(config_path, state_dir)
    chosen = [each for each in configs if dc in (None, each.name)] or [_named(configs, dc)]
    for each in chosen:
        rules[each.name] = {name: _rule(each.alerts, name) for name in RULES}
        try:
            settings = _read(each, state_dir)
        except StoreUnknown as error:
            failed += 1
            warn(f"what fires in {each.name} can't be read: {error}")
            continue
        known = live_among(settings, wall)
        silences |= {one.key: one for one in known}
        firing += [_firing(each.name, name, one, known, wall) for name, one in _memory(each, settings).firings.items()]
    if failed == len(chosen):
        raise CommandError("nothing can be read")
    shown = [_silence(one) for one in silences.values()]
    if as_json:
        print(json.dumps({"firing": firing, "silences": shown, "rules": rules}, indent=2))
        return
    for line in _lines(firing, shown, wall):
        print(visible(line))


@alerts.command(short_help="Tell nobody of an alert for a while.")
@click.argument("name", metavar="NAME")
@click.option("--for", "for_", metavar="TIME", required=True, help="For how long: 30m, 2h, 1d.")
@click.option("--why", metavar="TEXT", required=True, help="Why, for everybody else.")
@click.option("--dc", metavar="NAME", help="Only there. Default: everywhere.")
@config_option
@state_dir_option
def silence(name: str, for_: str, why: str, dc: str | None, config_path: Path | None, state_dir: Path) -> None:
    """Tell nobody of NAME for a while: a rule, or one alert of it as `hitmesh alerts list` shows it.

    What fires meanwhile stands on the dashboard, and is told when the silence ends and it still fires. Whoever was told
    before that it fires is told that it recovered. Silences that are over are deleted.

    \b
    Example:
      hitmesh alerts silence hub_lag/collector-1 --for 2h --why "profiling" --dc eu-west
    """
    _check_name(name)
    seconds = _seconds(for_)
    if not why.strip() or len(why) > MAX_WHY_CHARS:
        raise CommandError(f"--why is a text of 1 to {MAX_WHY_CHARS} characters")
    until = time.time() + seconds
    with _written(config_path, dc, state_dir) as store:
        store.set(silence_key(name, dc or EVERYWHERE), value_of(until, visible(why)), author=me())
        with contextlib.suppress(StoreUnknown):  # the silence is set; the next one deletes them
            _delete_past(store)
    print(visible(f"{name} is silenced {f'in {dc}' if dc else 'everywhere'} until {moment(until)}"))


@alerts.command(short_help="Take a silence back.")
@click.argument("name", metavar="NAME")
@click.option("--dc", metavar="NAME", help="That of one datacenter. Default: that of all.")
@config_option
@state_dir_option
def unsilence(name: str, dc: str | None, config_path: Path | None, state_dir: Path) -> None:
    """End the silence of NAME, as it was given to `silence`.

    \b
    Example:
      hitmesh alerts unsilence disk
    """
    _check_name(name)
    with _written(config_path, dc, state_dir) as store:
        if not store.delete(silence_key(name, dc or EVERYWHERE), author=me()):
            live = live_among(store.list(SILENCES), time.time())[:MAX_SHOWN]
            known = [each.key.removeprefix(SILENCES) for each in live]
            hint = f"silenced are: {', '.join(known)}" if known else "nothing is silenced"
            raise CommandError(f"{name} isn't silenced {f'in {dc}' if dc else 'everywhere'}", hint=hint)
    print(visible(f"{name} isn't silenced any more"))


@alerts.command(short_help="Send a test by each way, and show what was answered.")
@config_option
@click.option("--dc", metavar="NAME", help="Of one datacenter only.")
@state_dir_option
@json_option
def test(config_path: Path | None, dc: str | None, state_dir: Path, as_json: bool) -> int:
    """Send one test alert by every webhook and the mail of each datacenter, from here, and show what each answered.

    Run it on a host of a dashboard: what is to be tried is the way from there. Each has 20 s, as when a dashboard
    sends. Status 1: somebody didn't take it.

    \b
    Example:
      hitmesh alerts test --config /etc/hitmesh/eu-west.toml
    """
    from hitmesh.dashboard.alerts import outbox
    from hitmesh.dashboard.alerts.ways import ways_of

    configs = _configs(config_path, state_dir)
    chosen = [each for each in configs if dc in (None, each.name)] or [_named(configs, dc)]
    found = []
    for each in chosen:
        for way in ways_of(each.alerts):
            answers: list[str] = []
            why = outbox.attempt(partial(_send_test, way, each.name, answers), outbox.TRY_S)
            said = {"ok": not why, "answer": why or answers[0]}
            found.append({"dc": each.name, "way": way.name, "where": way.where, **said})
    if not found:
        raise CommandError("nothing is sent anywhere", hint="[alerts] in the datacenter's file: webhook, mail")
    if as_json:
        print(json.dumps(found, indent=2))
    else:
        for one in found:
            print(
                visible(
                    f"{one['dc']} {one['way']} ({one['where']}): {'ok' if one['ok'] else 'FAILED'}: {one['answer']}"
                )
            )
    return 0 if all(one["ok"] for one in found) else 1


# --- within -------------------------------------------------------------------------------------


def _configs(config_path: Path | None, state_dir: Path) -> list[Config]:
    return [files.load(config_path)] if config_path else folder.datacenters(state_dir)


def _named(configs: list[Config], dc: str | None) -> Config:
    found = next((each for each in configs if dc in (None, each.name)), None)
    if found is None:
        raise CommandError(f"there is no datacenter {dc}; known here: {', '.join(each.name for each in configs)}")
    return found


@contextlib.contextmanager
def _store(config: Config, state_dir: Path) -> Iterator[SettingsStore]:
    from hitmesh.settings.open import open_settings

    store = open_settings(config.stores.settings, state_dir / config.name)
    try:
        yield store
    finally:
        store.close()


def _read(config: Config, state_dir: Path) -> Mapping[str, Setting]:
    with _store(config, state_dir) as store:
        return store.list(ALERTS)


@contextlib.contextmanager
def _written(config_path: Path | None, dc: str | None, state_dir: Path) -> Iterator[SettingsStore]:
    """The store of the datacenter that is meant; without one, the first that answers: its Nexuses tell the others."""
    configs = _configs(config_path, state_dir)
    asked = [_named(configs, dc)] if dc else configs
    for number, each in enumerate(asked, start=1):
        with _store(each, state_dir) as store:
            try:
                store.check()
            except StoreUnknown as error:
                if number == len(asked):
                    raise CommandError(f"the settings of {each.name} can't be written: {error}") from error
                continue
            yield store
            return


def _memory(config: Config, settings: Mapping[str, Setting]) -> Memory:
    found = settings.get(key_of(config.name))
    return decode(found.value if found else None)


def _check_name(name: str) -> None:
    rule = name.partition("/")[0]
    if rule not in RULES:
        raise CommandError(f"no rule is called {rule!r}", hint=nearest(rule, RULES))


def _seconds(text: str) -> int:
    found = _SPAN.fullmatch(text)
    seconds = int(found[1]) * _SECONDS[found[2]] if found else 0
    if not 0 < seconds <= LONGEST_S:
        raise CommandError(f"--for {text!r} is no time", hint="such as 30m, 2h or 1d; 90d at most")
    return seconds


def _delete_past(store: SettingsStore) -> None:
    """Delete the silences that are over, but for one that somebody renews just now. Raises StoreUnknown."""
    settings, wall = store.list(SILENCES), time.time()
    for each in silences_among(settings):
        if each.until <= wall:
            with contextlib.suppress(SettingConflict):
                store.delete(each.key, author=me(), expect_version=settings[each.key].version)


def _send_test(way: Way, dc: str, answers: list[str]) -> None:
    answers.append(way.send(dc, [_test_notice(way.name)]))


def _test_notice(way: str) -> Notice:
    now = time.time()
    return Notice(
        id=f"test-{int(now * 1000):x}", number=1, kind="test", name="test", rule="test", level="warn",
        says=f"{me()} tries whether alerts come by {way}: nothing is wrong", since=now, at=now,
    )  # fmt: skip


def _firing(dc: str, name: str, one: Firing, silences: list[Silence], wall: float) -> dict[str, Any]:
    held = silence_of(silences, dc, name, wall)
    return {
        "dc": dc,
        "name": name,
        "rule": one.rule,
        "level": one.level,
        "says": one.says,
        "since": one.since,
        "id": one.id,
        "told": one.told,
        "silenced_until": held.until if held else None,
    }


def _silence(one: Silence) -> dict[str, Any]:
    return {"name": one.name, "dc": one.dc, "until": one.until, "who": one.who, "why": one.why}


def _rule(settings: Alerts, name: str) -> dict[str, object]:
    rule = getattr(settings.rules, name)
    return {each: getattr(rule, each) for each in rule.__struct_fields__}


def _lines(firing: list[dict[str, Any]], silences: list[dict[str, Any]], wall: float) -> Iterator[str]:
    if not firing:
        yield "nothing fires"
    for one in firing:
        held = f", silenced until {moment(one['silenced_until'])}" if one["silenced_until"] else ""
        yield f"{one['level']:4}  {one['dc']}  {one['name']}  since {moment(one['since'])}{held}: {one['says']}"
    for each in silences:
        where = "everywhere" if each["dc"] == EVERYWHERE else f"in {each['dc']}"
        yield f"silenced {where} until {moment(each['until'])}: {each['name']}, by {each['who']}: {each['why']}"

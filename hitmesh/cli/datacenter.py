"""`hitmesh datacenter`: says of a datacenter that it is gone for good, and takes that back.

Owns what is asked before that is believed. Retiring is a live setting, `datacenters/NAME`, written to the
settings store of one datacenter; its Nexuses see to the others.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final, TypeVar

import click
from msgspec import Struct

from hitmesh import config as files
from hitmesh.cli import folder
from hitmesh.cli.config import me
from hitmesh.cli.live_lines import moment
from hitmesh.cli.options import config_option, json_option, state_dir_option
from hitmesh.cli.retired import retired
from hitmesh.config import Config
from hitmesh.config.live import DATACENTERS, RETIRED, check
from hitmesh.errors import CommandError, MeshError, StoreUnknown
from hitmesh.mistakes import nearest
from hitmesh.protocol.messages import Seen
from hitmesh.settings import SettingsStore
from hitmesh.state.ages import AGE_PREFIX
from hitmesh.visible import visible

F = TypeVar("F", bound=Callable[..., object])

ASK_S: Final = 0.5  # for a Nexus's answer


class Known(Struct, frozen=True):
    """A datacenter as the others know it."""

    dc: str
    state: str  # alive; silent: no Nexus hears it; retired
    hits: int | None  # of it, in the copy that is the furthest; None: nobody has any, or says so
    behind_s: float | None  # how old that copy is, at most
    behind_is_said: bool  # by its owners; else that is when its oldest part was written: it may be all there is
    copy_in: str | None  # where it is
    retired_by: str | None
    retired_at: float | None  # seconds since 1970


@click.group(short_help="Show the datacenters, and retire one that is gone for good.")
def datacenter() -> None:
    """Show the datacenters of a mesh, and retire one that is gone for good.

    \b
    Example:
      hitmesh datacenter list
      hitmesh datacenter retire us-west
    """


@datacenter.command("list", short_help="Show the datacenters of a mesh.")
@config_option
@state_dir_option
@json_option
def list_(config_path: Path | None, state_dir: Path, as_json: bool) -> None:
    """Show each datacenter: whether it is heard, and how many of its hits the others have a copy of.

    \b
    Example:
      hitmesh datacenter list --json | jq '.[] | select(.state == "silent")'
    """
    found = Mesh(config_path, state_dir).known()
    if as_json:
        print(json.dumps([{name: getattr(each, name) for name in Known.__struct_fields__} for each in found], indent=2))
    else:
        print(text(found))


@datacenter.command(short_help="Say that a datacenter is gone for good.")
@click.argument("name", metavar="NAME")
@click.option("--force", is_flag=True, help="Even though it is alive.")
@config_option
@state_dir_option
def retire(name: str, force: bool, config_path: Path | None, state_dir: Path) -> None:
    """Say that datacenter NAME is gone for good.

    Its counts stay in every total, as far as the others have them; its age isn't shown any more, and
    nobody waits for it: no wiped datacenter asks it for rows, and no Nexus misses it. Hits that it had
    counted and nobody has a copy of are lost. Should it come back, `hitmesh datacenter return` takes
    it in again.

    \b
    Example:
      hitmesh datacenter retire us-west
    """
    mesh = Mesh(config_path, state_dir)
    known = {each.dc: each for each in mesh.known()}
    if name not in known:
        raise CommandError(f"no datacenter is called {name!r}", hint=nearest(name, list(known)))
    if known[name].state == "alive" and not force:
        raise CommandError(
            f"{name} is alive: its Nexus is heard",
            hint="stop it first, or its hits are counted with no age; --force retires it all the same",
        )
    key = DATACENTERS + name
    value = check(key, RETIRED, mesh.configs[0])
    if not any(config.name != name for config in mesh.configs):
        raise CommandError(
            f"{name} can't retire itself: its own settings store is the only one here",
            hint="--config names the file of another datacenter",
        )
    where = mesh.write(name, lambda store: store.set(key, value.encode(), author=me()))
    print(visible(f"{name} is retired, written in {where}: {_remains(known[name])}"))
    print(
        visible(f"nobody waits for it, and its age isn't shown; `hitmesh datacenter return {name}` takes it in again")
    )


@datacenter.command("return", short_help="Take a retired datacenter in again.")
@click.argument("name", metavar="NAME")
@config_option
@state_dir_option
def return_(name: str, config_path: Path | None, state_dir: Path) -> None:
    """Take retired datacenter NAME in again: it is waited for, and its age is shown.

    \b
    Example:
      hitmesh datacenter return us-west
    """
    mesh = Mesh(config_path, state_dir)
    known = {each.dc: each for each in mesh.known()}
    if name not in known:
        raise CommandError(f"no datacenter is called {name!r}", hint=nearest(name, list(known)))
    if known[name].state != "retired":
        raise CommandError(f"{name} isn't retired")
    where = mesh.write(name, lambda store: store.delete(DATACENTERS + name, author=me()))
    print(visible(f"{name} is taken in again, written in {where}: the others wait for it, and show its age"))


def text(found: Sequence[Known]) -> str:
    """Columns for people."""
    width = max(len(visible(each.dc)) for each in found)
    lines = []
    for each in found:
        words = _copy(each) if each.hits is not None else "nobody here has a copy of its counts"
        if each.state == "retired" and each.retired_by is not None and each.retired_at is not None:
            words += f"; retired by {each.retired_by}, {moment(each.retired_at)}"
        lines.append(f"{visible(each.dc):{width}}  {each.state:7}  {visible(words)}")
    return "\n".join(lines)


def _copy(known: Known) -> str:
    copied = f"{known.hits} hits copied, in {known.copy_in}"
    if known.behind_is_said:
        return f"{copied}, {known.behind_s:.0f} s ago"
    return (
        f"{copied}, the oldest part {known.behind_s:.0f} s ago; whether that is all of it, nobody who runs there says"
    )


def _remains(known: Known) -> str:
    if known.hits is None:
        return "nobody here has a copy of its counts, so none are in the totals"
    return f"its {known.hits} hits that are in {known.copy_in}'s copy stay in every total"


class Mesh:
    """The datacenters of which there are files here, and what those know."""

    def __init__(self, config_path: Path | None, state_dir: Path) -> None:
        self.configs = [files.load(config_path)] if config_path else folder.datacenters(state_dir)
        self._state_dir = state_dir
        with ThreadPoolExecutor(len(self.configs)) as pool:  # those that don't answer take their time
            # Datacenter -> everybody that a Nexus of it knows, of the others too; nobody when none answers.
            self.heard = dict(zip((each.name for each in self.configs), pool.map(_heard, self.configs), strict=True))

    def names(self) -> set[str]:
        """Those that a file or a Nexus knows."""
        names = {config.name for config in self.configs} | {peer for each in self.configs for peer in each.peers}
        return names | {seen.instance.dc for heard in self.heard.values() for seen in heard}

    def known(self) -> list[Known]:
        """Every datacenter that anybody here knows, by name. Raises CommandError when no settings can be read."""
        alive = {seen.instance.dc for heard in self.heard.values() for seen in heard if seen.alive}
        gone = retired(self.configs, self._state_dir)
        copies = self._copies()
        found = []
        for name in sorted(self.names() | gone.keys() | copies.keys()):
            by, at = (gone[name].author, gone[name].changed_at) if name in gone else (None, None)
            state = "retired" if name in gone else "alive" if name in alive else "silent"
            hits, behind_s, is_said, copy_in = copies.get(name, (None, None, False, None))
            found.append(Known(name, state, hits, behind_s, is_said, copy_in, by, at))
        return found

    def write(self, name: str, change: Callable[[SettingsStore], object]) -> str:
        """Carry out a change in one settings store, not that of `name` if there is another; where that was."""
        failed: list[str] = []
        for config in self._order(but=name):
            try:
                with self._settings(config) as store:
                    change(store)
            except StoreUnknown as error:
                failed.append(f"{config.name}: {error}")
            else:
                return config.name
        raise CommandError(f"no settings store takes it: {'; '.join(failed)}")

    def _order(self, but: str = "") -> list[Config]:
        """Those that run first; `but` last: whoever is to be retired may never tell the others."""
        return sorted(self.configs, key=lambda config: (config.name == but, not self.heard[config.name]))

    @contextlib.contextmanager
    def _settings(self, config: Config) -> Iterator[SettingsStore]:
        from hitmesh.settings.open import open_settings

        with contextlib.closing(open_settings(config.stores.settings, self._state_dir / config.name)) as store:
            yield store

    def _copies(self) -> Mapping[str, tuple[int, float, bool, str]]:
        """Of each datacenter that somebody has rows of: the furthest copy's hits, its age, who says so, and where it is."""
        now_s = time.time()
        found: dict[str, tuple[int, float, bool, str]] = {}
        for config in self.configs:
            with contextlib.suppress(StoreUnknown):
                for dc, (hits, as_of_s) in _origins(config, self._state_dir / config.name).items():
                    if dc not in found or hits > found[dc][0]:
                        said_s = age_said(dc, config.name, self.heard[config.name])
                        # Heads say when they were written: of a datacenter without hits that is long ago.
                        behind_s = now_s - as_of_s if said_s is None else said_s
                        found[dc] = hits, round(max(0.0, behind_s), 3), said_s is not None, config.name
        return found


def age_said(dc: str, where: str, heard: Sequence[Seen]) -> float | None:
    """How old the copy of `dc` in datacenter `where` is, as the owners there say; None unless all of them do."""
    owners = [
        seen
        for seen in heard
        if seen.alive and seen.instance.dc == where and seen.instance.role == "processor" and seen.instance.owns
    ]
    ages = [seen.instance.load.get(AGE_PREFIX + dc) for seen in owners]
    if not ages or None in ages:
        return None
    return max(age + seen.age_ms / 1000 for age, seen in zip(ages, owners, strict=True) if age is not None)


def _heard(config: Config) -> tuple[Seen, ...]:
    """Everybody that a Nexus of this datacenter knows, of the others too; nobody when none answers."""
    from hitmesh.mesh.lookup import Lookups

    try:
        with Lookups.of(config, ASK_S) as lookups:
            return lookups.snapshot().seen
    except MeshError:
        return ()


def _origins(config: Config, base: Path) -> Mapping[str, tuple[int, float]]:
    """Of each other datacenter how many of its hits the heads here have, and when the oldest was current."""
    from hitmesh.store.open import open_store
    from hitmesh.store.totals import decode_head

    found: dict[str, tuple[int, float]] = {}
    with contextlib.closing(open_store(config, base)) as store:
        for partition, (stored, _) in store.read(dict.fromkeys(range(config.partitions), ())).items():
            if stored is None:
                continue
            for dc, origin in decode_head(partition, stored).origins.items():
                hits, as_of_s = found.get(dc, (0, float("inf")))
                found[dc] = hits + origin.hits, min(as_of_s, origin.as_of_s)
    return found

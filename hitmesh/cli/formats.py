"""`hitmesh formats`: which formats the releases of a mesh read, which are written, and the step to newer ones.

Owns who is asked, and the writing of the live settings `formats/NAME`; who is in the way is
`hitmesh.cli.finalizing`'s to say.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final, TypeVar

import click
from click.core import ParameterSource

from hitmesh import config as files
from hitmesh.cli import finalizing, folder
from hitmesh.cli.config import WAIT_S, me
from hitmesh.cli.finalizing import Heard, Report, named
from hitmesh.cli.in_force import Wait, nexuses_elsewhere
from hitmesh.cli.options import config_option, json_option, state_dir_option
from hitmesh.cli.stderr import warn
from hitmesh.config import Config, nexus_endpoints
from hitmesh.config.live import FORMATS, Applied, apply
from hitmesh.errors import CommandError, MeshError, StoreUnknown
from hitmesh.protocol.messages import Answer, Instance
from hitmesh.settings import SettingsStore, live_settings
from hitmesh.state.ages import AGE_PREFIX
from hitmesh.visible import visible

T = TypeVar("T")

ASK_S: Final = 1.0  # for a Nexus's answer, in another datacenter too; three tries, and it is in the way


@click.group(
    invoke_without_command=True, short_help="Show which formats are written, and write those of a new release."
)
@config_option
@state_dir_option
@json_option
@click.pass_context
def formats(context: click.Context, config_path: Path | None, state_dir: Path, as_json: bool) -> None:
    """Show the newest formats that each instance reads, and which are written now.

    A new release writes what the one before reads, so that it can be rolled back, until `finalize`.

    \b
    Example:
      hitmesh formats
      hitmesh formats finalize
    """
    if context.invoked_subcommand is not None:
        if any(context.get_parameter_source(name) is ParameterSource.COMMANDLINE for name in context.params):
            raise click.UsageError(f"options come behind {context.invoked_subcommand}")
        return
    found = _Mesh(config_path, state_dir).report()
    print(json.dumps(finalizing.as_json(found), indent=2) if as_json else finalizing.table(found))


@formats.command(short_help="Write the newest formats from now on.")
@config_option
@state_dir_option
@json_option
def finalize(config_path: Path | None, state_dir: Path, as_json: bool) -> int:
    """Have the newest formats of this release written, in every datacenter. There is no way back from it.

    Refused while any living instance can't read them, or a datacenter that isn't retired can't be asked: after it an
    older release can't come back.

    Status 1: refused; or set, but somebody who is within reach still lacks it after 5 s.

    \b
    Example:
      hitmesh formats finalize --json | jq .in_the_way
    """
    mesh = _Mesh(config_path, state_dir)
    found = mesh.report()
    if found.in_the_way:
        if as_json:
            print(json.dumps(finalizing.as_json(found), indent=2))
        raise CommandError(f"{named(found.newer)} can't be written yet: {'; '.join(found.in_the_way)}")
    said, lacking = mesh.finalize(found) if found.newer else (["there is nothing to finalize"], [])
    if as_json:
        after = finalizing.report({}, {**found.written, **found.newer})
        print(json.dumps({**finalizing.as_json(after), "lacking": lacking}, indent=2))
    else:
        print("\n".join(map(visible, said)))
    return 1 if lacking else 0


class _Mesh:
    """The datacenters of which there are files here, and those that they know."""

    def __init__(self, config_path: Path | None, state_dir: Path) -> None:
        self._configs = [files.load(config_path)] if config_path else folder.datacenters(state_dir)
        self._state_dir = state_dir
        self._applied = self._settings()

    def report(self) -> Report:
        """What is read and written. Raises CommandError when this release can't read what is written."""
        written = self._applied.written
        if written.unreadable:
            raise CommandError(written.unreadable, hint="run a newer release's `hitmesh formats`")
        return finalizing.report(ask(self._configs, self._applied.retired), written.formats)

    def finalize(self, found: Report) -> tuple[list[str], list[str]]:
        """Write the newer formats; what is to be said of it, and who still lacks it."""
        began_s = time.monotonic()
        version = self._with_store(
            lambda _, store: max(
                store.set(FORMATS + name, str(number).encode(), author=me()).version
                for name, number in found.newer.items()
            )
        )
        waiting = Wait(self._configs, version, self._applied.retired)
        waiting.run(WAIT_S)
        for line in waiting.warnings():
            warn(line)
        said = f"{named(found.newer)} is written from now on, and an older release can't come back"
        return [said, waiting.result(time.monotonic() - began_s)], waiting.lacking

    def _settings(self) -> Applied:
        def read(config: Config, store: SettingsStore) -> Applied:
            live = live_settings(store.editions())
            return apply(config, {key: each.value.decode("utf-8", "replace") for key, each in live.items()})

        return self._with_store(read)

    def _with_store(self, use: Callable[[Config, SettingsStore], T]) -> T:
        """Use the first datacenter's settings store that answers."""
        from hitmesh.settings.open import open_settings

        failed = []
        for config in self._configs:
            try:
                with contextlib.closing(open_settings(config.stores.settings, self._state_dir / config.name)) as store:
                    return use(config, store)
            except StoreUnknown as error:
                failed.append(f"{config.name}: {error}")
        raise CommandError(f"no settings store answers: {'; '.join(failed)}")


def ask(configs: Sequence[Config], retired: Collection[str]) -> Heard:
    """The living instances of every datacenter that these name or know, as its own Nexuses tell them; but of the `retired`."""
    from hitmesh.mesh.lookup import Lookups  # ZeroMQ is slow to import
    from hitmesh.mesh.network import nexus_keys, operator_keyring

    keyring = next((operator_keyring(each) for each in configs if each.keys), None)
    keys = [nexus_keys(keyring, each) for each in configs]

    def snapshot(endpoints: Sequence[str]) -> Answer | None:
        def keys_at(endpoint: str) -> Sequence[str]:
            return [key for each in keys for key in each(endpoint)]

        try:
            with Lookups(endpoints, ASK_S, keyring=keyring, keys=keys_at) as lookups:
                answer = lookups.snapshot()
        except MeshError:
            return None
        return answer if answer.warm else None  # one that has just started may not know everybody

    found: dict[str, tuple[Instance, ...] | None] = dict.fromkeys(dc for each in configs for dc in each.peers)
    asking = {each.name: [nexus_endpoints(one).lookups for one in each.instances("nexus")] for each in configs}
    asked: set[str] = set(retired)
    while asking:
        with ThreadPoolExecutor(len(asking)) as pool:  # those that don't answer take their time
            answers = dict(zip(asking, pool.map(snapshot, asking.values()), strict=True))
        asked |= asking.keys()
        asking = {}
        for dc, answer in answers.items():
            living = [each.instance for each in answer.seen if each.alive] if answer else []
            found[dc] = tuple(each for each in living if each.dc == dc) if answer else None
            for name in (name for each in living for name in each.load if name.startswith(AGE_PREFIX)):
                found.setdefault(name.removeprefix(AGE_PREFIX))  # there are rows of it here
            if answer:
                asking |= {dc: at for dc, at in nexuses_elsewhere(answer).items() if dc not in asked}
    return {dc: instances for dc, instances in found.items() if dc not in retired}

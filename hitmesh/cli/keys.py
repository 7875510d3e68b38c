"""`hitmesh keys`: shows, adds, revokes and changes the keys of a mesh. The files are `keyfolder`'s.

A change is seen by every process of the hosts that have the list, within a second. Other hosts get it with the
list: it is copied, and doesn't travel by the mesh, since it says whom the mesh may believe.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Final, TypeVar

import click

from hitmesh.cli import folder, keyfolder
from hitmesh.cli.layout import KEYS_NAME
from hitmesh.cli.options import json_option, state_dir_option
from hitmesh.cli.progress import Progress
from hitmesh.cli.rotation import Rotation
from hitmesh.cli.supervision import Supervisor
from hitmesh.errors import CommandError, ConfigError
from hitmesh.mesh.keyring import SHORT, list_path, read_list, read_pair, secret_path
from hitmesh.mistakes import nearest
from hitmesh.protocol.names import is_key
from hitmesh.state.keylist import KeyList, Peer, check_peer

F = TypeVar("F", bound=Callable[..., object])

SHORTEST: Final = 8  # digits by which a key may be named

_keys_option = click.option(
    "--keys",
    "keys_dir",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="The folder of keys, instead of that of the mesh in the state folder.",
)


@click.group(short_help="Show, add, revoke and change keys.")
def keys() -> None:
    """Show, add, revoke and change the keys of a mesh.

    A key is one instance's: DATACENTER/ROLE/NAME, such as eu-west/collector/collector-3. A running mesh sees
    each change of its list within a second; with several hosts, copy the list to all of them.

    \b
    Example:
      hitmesh keys list
      hitmesh keys revoke eu-west/collector/collector-3
    """


@keys.command("list", short_help="Show whose each key is.")
@_keys_option
@state_dir_option
@json_option
def list_(keys_dir: Path | None, state_dir: Path, as_json: bool) -> None:
    """Show whose each key is, and of whom this folder has the secret one.

    \b
    Example:
      hitmesh keys list --json | jq -r '.[] | select(.role == "nexus") | .key'
    """
    where = _folder(keys_dir, state_dir)
    shown = [
        {"key": key, "dc": peer.dc, "role": peer.role, "name": peer.name, "secret": _secret(where, key, peer)}
        for key, peer in _read(where).items()
    ]
    if as_json:
        print(json.dumps(shown, indent=2))
        return
    rows = [("KEY", "DC", "ROLE", "NAME", "SECRET")]
    rows += [(one["key"][:SHORT], one["dc"], one["role"], one["name"], one["secret"]) for one in shown]
    widths = [max(len(row[column]) for row in rows) for column in range(5)]
    print("\n".join("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows))


@keys.command(short_help="Give an instance a key, or put its own on the list.")
@click.argument("who", metavar="DATACENTER/ROLE/NAME")
@click.option("--key", metavar="KEY", help="Its public key, when its secret one was made elsewhere.")
@_keys_option
@state_dir_option
def add(who: str, key: str | None, keys_dir: Path | None, state_dir: Path) -> None:
    """Give an instance a key; with --key put one on the list that was made elsewhere.

    \b
    Example:
      hitmesh keys add eu-west/collector/collector-3
    """
    where, peer = _folder(keys_dir, state_dir), _peer(who)
    if key is not None:
        if not is_key(key):
            raise CommandError(f"{key!a:.80} is no public key, which has 64 digits of 0-9 a-f")
        keyfolder.add(where, peer, key)
        print(f"{peer} has the key {key[:SHORT]}")
    elif not keyfolder.make_missing(where, [peer]):
        raise CommandError(
            f"{peer} has a key already",
            hint="`hitmesh keys rotate` gives it another one; if its secret is lost, revoke this one first",
        )
    else:
        print(f"{peer} has a new key; its secret is {secret_path(where, peer)}")


@keys.command(short_help="Take keys off the list: they are heard no more.")
@click.argument("which", metavar="KEY|DATACENTER/ROLE/NAME")
@_keys_option
@state_dir_option
def revoke(which: str, keys_dir: Path | None, state_dir: Path) -> None:
    """Take a key, or all keys of an instance, off the list: it isn't heard any more, its open connections neither.

    A key is named by its first 8 digits or more. The instance goes on running; stop it.

    \b
    Example:
      hitmesh keys revoke 3f9a03c1
    """
    where = _folder(keys_dir, state_dir)
    meant = _meant(which, _read(where))
    _show_gone(keyfolder.revoke(where, lambda key, peer: (key, peer) in meant))


@keys.command(short_help="Give every instance, or some, another key.")
@click.argument("which", metavar="[DATACENTER[/ROLE[/NAME]]]", default="")
@click.option(
    "--step",
    type=click.Choice(["add", "use", "drop"]),
    help="Only this one, without restarts: for a mesh of several hosts, where each is followed by copying the files.",
)
@_keys_option
@state_dir_option
def rotate(which: str, step: str | None, keys_dir: Path | None, state_dir: Path) -> None:
    """Give every instance another key while the mesh runs: no request fails, and nothing is counted twice.

    Each one is restarted with its new key, one after the other; meanwhile the list has both. Across several hosts
    it takes three steps. `add` makes the new keys and puts them on the list: copy the list to all hosts. `use` puts
    them in place of the old ones: copy each to its host, and restart the instance. `drop` takes the old ones off the
    list: copy it again.

    \b
    Example:
      hitmesh keys rotate eu-west
    """
    where = _folder(keys_dir, state_dir)
    peers = _chosen(which, where)
    with keyfolder.rotating(where):
        if step == "add":
            keyfolder.make_next(where, peers)
        elif step == "use":
            for peer in peers:
                keyfolder.use_next(where, peer)
        elif step == "drop":
            _show_gone(keyfolder.drop_former(where, peers))
        else:
            _rotate_here(peers, where, state_dir)
    if step in ("add", "use"):
        print(f"{step}: {len(peers)} keys in {where}")


def _rotate_here(peers: list[Peer], where: Path, state_dir: Path) -> None:
    supervisor = Supervisor(state_dir)
    if supervisor.programs() is None:
        raise CommandError(f"no mesh runs in {state_dir}", hint="--step changes the keys of a mesh that is elsewhere")
    configs = {one.name: one for one in folder.datacenters(state_dir) if one.keys and Path(one.keys) == where}
    progress = Progress()
    with folder.alone(state_dir, "scale"):  # neither may restart what the other one waits for
        try:
            for name, config in configs.items():
                mine = [peer for peer in peers if peer.dc == name]
                if mine:
                    gone = Rotation(config, supervisor, mine).run(progress)
                    print(f"{name}: {len(mine)} new keys, {len(gone)} old ones off the list")
        finally:
            progress.end()


def _chosen(which: str, where: Path) -> list[Peer]:
    """Those who are meant, and whose secret is here."""
    wanted = tuple(which.split("/")) if which else ()
    everybody = dict.fromkeys(peer for _, peer in _read(where).items())
    chosen = [peer for peer in everybody if peer[: len(wanted)] == wanted and secret_path(where, peer).exists()]
    if not chosen:
        raise CommandError(f"nobody whose key is in {where} is meant by {which!a:.200}", hint="see `hitmesh keys list`")
    return chosen


def _show_gone(gone: list[tuple[str, Peer]]) -> None:
    for key, peer in gone:
        print(f"{peer}: {key[:SHORT]} is on the list no more")


def _folder(keys_dir: Path | None, state_dir: Path) -> Path:
    where = keys_dir
    if where is None:
        named = {config.keys for config in folder.datacenters(state_dir)} if folder.config_paths(state_dir) else set()
        if len(named) > 1:
            raise CommandError(f"the datacenters in {state_dir} have several folders of keys", hint="--keys names one")
        where = Path(next(iter(named), "") or state_dir / KEYS_NAME)
    if not list_path(where).exists():
        raise CommandError(
            f"there are no keys in {where}", hint="`hitmesh keygen DIR` makes them; --keys names another"
        )
    return where


def _read(where: Path) -> KeyList:
    return read_list(where)


def _peer(text: str) -> Peer:
    words = text.split("/")
    if len(words) != 3:
        raise CommandError(f"{text!a:.200} must be DATACENTER/ROLE/NAME, such as eu-west/collector/collector-3")
    peer = Peer(*words)
    if problem := check_peer(peer):
        raise CommandError(problem)
    return peer


def _meant(which: str, known: KeyList) -> list[tuple[str, Peer]]:
    items = list(known.items())
    if "/" in which:
        peer = _peer(which)
        found = [(key, one) for key, one in items if one == peer]
        if not found:
            raise CommandError(f"{peer} has no key", hint=nearest(str(peer), sorted({str(one) for _, one in items})))
        return found
    if len(which) < SHORTEST:
        raise CommandError(f"{which!a} is too short: {SHORTEST} digits of a key at least")
    found = [(key, one) for key, one in items if key.startswith(which)]
    if len(found) != 1:
        raise CommandError(f"{len(found) or 'no'} keys begin with {which!a:.80}", hint="see `hitmesh keys list`")
    return found


def _secret(where: Path, key: str, peer: Peer) -> str:
    """Whether its secret is in this folder."""
    path = secret_path(where, peer)
    if not path.exists():
        return "elsewhere"
    try:
        return "here" if read_pair(path).public.hex() == key else "of another key"
    except ConfigError:
        return "unreadable"

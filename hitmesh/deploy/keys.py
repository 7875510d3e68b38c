"""The keys of a mesh on its hosts: made on the operator's machine, brought to the hosts, changed, taken away.

The folder of keys beside the datacenters' files has all of them; a host gets the list, the secrets of its own
instances, and the operator's. The list goes to the hosts of every datacenter: it says whom each may believe.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

from hitmesh.cli import keyfolder
from hitmesh.deploy.desk import Desk
from hitmesh.deploy.facts import Facts
from hitmesh.deploy.files import File
from hitmesh.deploy.fleet import Host
from hitmesh.deploy.paths import KEYS
from hitmesh.deploy.plan import Change
from hitmesh.deploy.render.consul import GOSSIP, gossip_text
from hitmesh.deploy.runner import Runner
from hitmesh.errors import CommandError
from hitmesh.mesh.keyring import list_path, read_list
from hitmesh.state.keylist import OPERATOR, KeyList, Peer

SEEN_S: Final = 2.0  # for every process to have looked at a list that was changed


class Keys:
    """The keys of one datacenter; `others` are the desks of those that share its list."""

    def __init__(self, desk: Desk, others: Sequence[Desk]) -> None:
        if not desk.config.keys:
            raise CommandError(f"{desk.path} has no keys", hint='keys = "keys" names the folder, relative to it')
        self._desk, self._others = desk, others
        self._folder = Path(desk.config.keys)

    def lacking(self, facts: Mapping[str, Facts]) -> list[str]:
        """What a host of these lacks of its secrets, and who has no key at all, in words."""
        known = read_list(self._folder) if list_path(self._folder).exists() else KeyList()
        found = [f"{peer} has no key" for peer in self._peers() if not known.keys_of(peer)]
        for host in self._desk.fleet.hosts:
            if host.name in facts:
                found += [
                    f"{host.name}: {role}/{name} isn't there" for role, name, _ in self._unlike(host, facts[host.name])
                ]
        return found

    def make(self, facts: Mapping[str, Facts] | None = None) -> None:
        """Make what is missing, and bring all to the hosts that lack it; twice changes nothing. Raises CommandError."""
        made = keyfolder.make_missing(self._folder, self._peers(), is_shared=True)
        for peer in made:
            self._desk.tell(f"{peer}: a key was made")
        self.bring_list()
        self.bring_secrets(facts or self._desk.facts())

    def rotate(self, may_go_on: Callable[[], None]) -> None:
        """Give everybody of the datacenter another key, while it runs."""
        peers = self._peers()
        with keyfolder.rotating(self._folder):
            keyfolder.make_next(self._folder, peers)
            self.bring_list()
            time.sleep(SEEN_S)
            for peer in peers:
                keyfolder.use_next(self._folder, peer)
            self.bring_secrets(self._desk.facts())
            Runner(self._desk.fleet, self._desk.hosts, {}, self._desk.tell, may_go_on).run(self._restarts(), undo=False)
            gone = keyfolder.drop_former(self._folder, peers)
            self.bring_list()
        self._desk.tell(f"{self._desk.fleet.dc}: {len(peers)} new keys, {len(gone)} old ones off the list")

    def revoke(self, who: str) -> None:
        """Take all keys of an instance off the list, everywhere."""
        peer = Peer(*who.split("/")) if who.count("/") == 2 else None
        gone = keyfolder.revoke(self._folder, lambda _, one: one == peer)
        if not gone:
            raise CommandError(f"{who!a} has no key", hint="DATACENTER/ROLE/NAME, as `hitmesh keys list` has it")
        self.bring_list()
        for key, one in gone:
            self._desk.tell(f"{one}: {key[:8]} is on the list no more, on no host")

    def bring_list(self) -> None:
        """Have the list on every host of every datacenter. Raises CommandError, naming who hasn't got it here.

        A host elsewhere that doesn't take it is told of: it gets the list with its own next deploy.
        """
        file = File(path=str(list_path(Path(KEYS))), text=list_path(self._folder).read_text(encoding="utf-8"))
        problems = []
        for desk in (self._desk, *self._others):
            answers = desk.each(desk.fleet.hosts, lambda host: host.write([file]))
            for name, answer in answers.items():
                if isinstance(answer, CommandError) and desk is self._desk:
                    problems.append(str(answer))
                elif isinstance(answer, CommandError):
                    desk.tell(f"{desk.fleet.dc} hasn't got the list of keys: {answer}")
                elif answer:
                    desk.tell(f"{desk.fleet.dc} {name}: the list of keys was changed")
        if problems:
            raise CommandError(
                f"the list isn't everywhere: {'; '.join(problems)}", hint="the same command again goes on"
            )

    def bring_secrets(self, facts: Mapping[str, Facts]) -> None:
        """Give each of these hosts the secrets of what runs there. Raises CommandError."""
        for host in self._desk.fleet.hosts:
            if host.name in facts:
                for role, name, text in self._unlike(host, facts[host.name]):
                    self._desk.hosts[host.name].secret(role, name, text)
                    self._desk.tell(f"{host.name}: {role}/{name} is there")

    def _unlike(self, host: Host, facts: Facts) -> Iterator[tuple[str, str, str]]:
        """Those secrets that a host doesn't have as they are here."""
        for role, name, text in self._secrets(host):
            digest = hashlib.sha256(text.encode()).hexdigest()
            if facts.files.get(f"{KEYS}/{self._desk.fleet.dc}/{role}/{name}") != digest:
                yield role, name, text

    def _secrets(self, host: Host) -> Iterator[tuple[str, str, str]]:
        """Role, name and text of each: keys of instances, and what else is in a role's folder, such as a certificate."""
        gossip_key = self._desk.config.deploy.consul.gossip_key
        if gossip_key and self._desk.fleet.has_consul:
            yield "consul", GOSSIP, gossip_text(_read(self._desk.path.parent / gossip_key))
        instances = {one.name for one in host.instances}
        roles = (
            {one.role for one in host.instances} | {OPERATOR} | ({"consul"} if self._desk.fleet.has_consul else set())
        )
        for role in sorted(roles):
            folder = self._folder / self._desk.fleet.dc / role
            for path in sorted(folder.glob("[!.]*")) if folder.is_dir() else ():
                is_instance = path.name.removeprefix(f"{role}-").isdecimal()
                if not is_instance or path.name in instances:
                    yield role, path.name, _read(path)

    def _peers(self) -> list[Peer]:
        return keyfolder.peers_of(self._desk.config)

    def _restarts(self) -> list[Change]:
        facts = self._desk.facts()
        steps = []
        for host, one in self._desk.fleet.in_order():
            if release := facts[host.name].current.get(one.name):
                steps.append(Change(host.name, one.name, release, release, "it has a new key"))
        return steps


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise CommandError(f"{path}: can't be read: {error}") from error

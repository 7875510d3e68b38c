"""The keys of a mesh on its hosts: made on the operator's machine, brought to the hosts, changed, taken away.

Consul's tokens and its gossip key go the same way; how they are made is `tokens`'s and `gossip`'s.

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
from hitmesh.deploy.facts import Facts, spares_up
from hitmesh.deploy.files import File
from hitmesh.deploy.fleet import Host
from hitmesh.deploy.gossip import Gossip, has_key, read
from hitmesh.deploy.paths import KEYS
from hitmesh.deploy.plan import Change
from hitmesh.deploy.render.consul import AGENT, GOSSIP, gossip_text, token_name
from hitmesh.deploy.runner import Runner
from hitmesh.deploy.tokens import Bearer, Tokens
from hitmesh.errors import CommandError
from hitmesh.mesh.keyring import list_path, read_list
from hitmesh.state.keylist import OPERATOR, KeyList, Peer

SEEN_S: Final = 2.0  # for every process to have looked at a list that was changed, or at its token


class Keys:
    """The keys of one datacenter; `others` are the desks of those that share its list."""

    def __init__(self, desk: Desk, others: Sequence[Desk]) -> None:
        if not desk.config.keys:
            raise CommandError(f"{desk.path} has no keys", hint='keys = "keys" names the folder, relative to it')
        self._desk, self._others = desk, others
        self._folder = Path(desk.config.keys)
        self._tokens = Tokens.of(desk, self._folder)
        self._gossip = Gossip(desk, others) if has_key(desk) else None

    def lacking(self, facts: Mapping[str, Facts]) -> list[str]:
        """What a host of these lacks of its secrets, and who has no key at all, in words."""
        known = read_list(self._folder) if list_path(self._folder).exists() else KeyList()
        found = [f"{peer} has no key" for peer in self._peers() if not known.keys_of(peer)]
        found += self._tokens.lacking() if self._tokens else []
        found += self._gossip.lacking(facts) if self._gossip else []
        for host in self._desk.fleet.hosts:
            if host.name in facts:
                found += [
                    f"{host.name}: {role}/{name} {why}" for role, name, _, why in self._unlike(host, facts[host.name])
                ]
        return found

    def unfinished(self) -> str:
        """What broke off and is to be finished, in words; empty when nothing has."""
        who = self._tokens.unfinished() if self._tokens else []
        if not who:
            return ""
        return f"a change of the ACL tokens of {', '.join(who)} broke off: fab keys:dc={self._desk.fleet.dc},rotate=1 finishes it"

    def come_first(self, facts: Mapping[str, Facts]) -> bool:
        """Whether Consul lets nobody take the lock on these hosts before they are given their tokens."""
        place = f"{KEYS}/{self._desk.fleet.dc}/{OPERATOR}/{token_name(self._desk.fleet)}"
        return self._tokens is not None and not all(place in fact.files for fact in facts.values())

    def make(self, facts: Mapping[str, Facts] | None = None) -> None:
        """Make what is missing, and bring all to the hosts that lack it; twice changes nothing. Raises CommandError."""
        if facts is None:
            self._desk.any_answer()  # or keys would be made that nobody gets
        made = keyfolder.make_missing(self._folder, self._peers(), is_shared=True)
        for peer in made:
            self._desk.tell(f"{peer}: a key was made")
        if self._tokens:
            with keyfolder.alone(self._folder):
                self._tokens.make()
        self.bring_list()
        facts = facts or self._desk.facts()
        if self._gossip:
            self._gossip.make(facts)
        self.bring_secrets(facts)

    def rotate(self, may_go_on: Callable[[], None]) -> None:
        """Give everybody of the datacenter another key, while it runs."""
        peers = self._peers()
        self._desk.facts()  # each host must answer, or it would be left with what is of no use any more
        with keyfolder.rotating(self._folder):
            if self._tokens:
                self._tokens.make()
                self._tokens.renew()
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
            if self._tokens:
                time.sleep(SEEN_S)  # what was asked with an old one is answered
                deleted = self._tokens.drop_former()
                self._desk.tell(
                    f"{self._desk.fleet.dc}: {len(self._tokens.bearers)} new ACL tokens, {deleted} old ones deleted"
                )
            if self._gossip:
                self._gossip.rotate()

    def revoke(self, who: str) -> None:
        """Take all keys of an instance off the list, everywhere."""
        if self._tokens and (bearer := self._tokens.named(who)):
            self._revoke_token(self._tokens, bearer)
            return
        peer = Peer(*who.split("/")) if who.count("/") == 2 else None
        gone = keyfolder.revoke(self._folder, lambda _, one: one == peer)
        if not gone:
            token = f"; {self._tokens.bearers[0].path.name} is the name of a role's ACL token" if self._tokens else ""
            raise CommandError(
                f"{who!a} has no key", hint=f"DATACENTER/ROLE/NAME, as `hitmesh keys list` has it{token}"
            )
        self.bring_list()
        for key, one in gone:
            self._desk.tell(f"{one}: {key[:8]} is on the list no more, on no host")

    def _revoke_token(self, tokens: Tokens, bearer: Bearer) -> None:
        """Another token for whoever has this one, and then it is good for nothing, whoever answers."""
        with keyfolder.rotating(self._folder):
            tokens.make()
            tokens.renew([bearer])
            answers = self._desk.each(self._desk.fleet.hosts, lambda host: host.facts())
            problems = [str(answer) for answer in answers.values() if isinstance(answer, CommandError)]
            try:
                self.bring_secrets({name: answer for name, answer in answers.items() if isinstance(answer, Facts)})
            except CommandError as error:
                problems.append(str(error))
            time.sleep(SEEN_S)  # what was asked with the old one is answered
            deleted = tokens.drop_former([bearer])
        self._desk.tell(f"{self._desk.fleet.dc}: a new ACL token of {bearer.who}, {deleted} old ones deleted")
        if problems:
            raise CommandError(
                f"not everybody has the new one: {'; '.join(problems)}",
                hint=f"fab keys:dc={self._desk.fleet.dc} brings it",
            )

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
        """Give each of these hosts the secrets of what runs there. Raises CommandError, also when an agent isn't there."""
        problems = []
        for host in self._desk.fleet.hosts:
            if host.name in facts:
                for role, name, text, _ in self._unlike(host, facts[host.name]):
                    there = self._desk.hosts[host.name]
                    try:
                        if self._tokens and (role, name) == ("consul", AGENT):
                            self._tokens.set_agent(there)  # before: what is there needn't be done again
                    except CommandError as error:
                        problems.append(error.message)
                        continue
                    there.secret(role, name, text)
                    self._desk.tell(f"{host.name}: {role}/{name} is there")
        if problems:
            raise CommandError(
                f"an agent without its token: {'; '.join(problems)}", hint="the same command again goes on"
            )

    def _unlike(self, host: Host, facts: Facts) -> Iterator[tuple[str, str, str, str]]:
        """Those secrets that a host doesn't have as they are here, and what is wrong with each there."""
        for role, name, text in self._secrets(host):
            digest = hashlib.sha256(text.encode()).hexdigest()
            path = f"{KEYS}/{self._desk.fleet.dc}/{role}/{name}"
            if path not in facts.files:
                yield role, name, text, "isn't there"
            elif facts.files[path] != digest:
                yield role, name, text, "is another one"
            elif path in facts.loose:
                yield role, name, text, "isn't its user's alone"

    def _secrets(self, host: Host) -> Iterator[tuple[str, str, str]]:
        """Role, name and text of each: keys of instances, and what else is in a role's folder, such as a certificate."""
        if gossip_key := read(self._desk):
            yield "consul", GOSSIP, gossip_text(gossip_key)
        instances = {one.name for one in (*host.instances, *host.spares)}
        roles = (
            {one.role for one in (*host.instances, *host.spares)}
            | {OPERATOR}
            | ({"consul"} if self._desk.fleet.has_consul else set())
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
        for host, one in self._desk.fleet.in_order(spares_up(self._desk.fleet, facts)):
            if release := facts[host.name].current.get(one.name):
                steps.append(Change(host.name, one.name, release, release, "it has a new key"))
        return steps


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise CommandError(f"{path}: can't be read: {error}") from error

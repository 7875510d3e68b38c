"""Changing the keys of a running mesh on this machine: every instance gets another one, one after the other.

For a while both keys of an instance are on the list, so nobody is unheard at any moment: the new one is put on
it, the instance is restarted with it, and when all are back the old ones are taken off. Whatever fails, the same
command again goes on from there.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final

from hitmesh.cli import keyfolder, picture
from hitmesh.cli.layout import STOP_GRACE_S
from hitmesh.cli.progress import Progress
from hitmesh.cli.supervision import Supervisor
from hitmesh.config import Config
from hitmesh.errors import CommandError
from hitmesh.state.keylist import OPERATOR, Peer

SEEN_S: Final = 2.0  # for every process to have looked at a list that was changed
BACK_S: Final = 90.0  # for an instance to be back: 3 s on two quiet cores
POLL_S: Final = 0.2
RELOADS: Final = ("collector", "balancer")  # which start new workers in place of the old ones on SIGHUP
ORDER: Final = ("nexus", "processor", "collector", "balancer", "dashboard", "recorder", "scaler", OPERATOR)


class Rotation:
    """The change of one datacenter's keys."""

    def __init__(self, config: Config, supervisor: Supervisor, peers: Sequence[Peer]) -> None:
        self._config = config
        self._supervisor = supervisor
        self._folder = Path(config.keys)
        self._peers = sorted(peers, key=lambda one: ORDER.index(one.role))
        self._lacked: set[str] = set()  # from the beginning: nobody waits for it

    def run(self, progress: Progress) -> list[tuple[str, Peer]]:
        """Carry it out; the keys that are on the list no more. Raises CommandError."""
        self._lacked = set(picture.missing(self._config, picture.ask(self._config)))
        keyfolder.make_next(self._folder, self._peers)
        time.sleep(SEEN_S)
        for peer in self._peers:
            progress.show(f"{peer}: a new key")
            before = self._ids(peer)
            keyfolder.use_next(self._folder, peer)
            if peer.role != OPERATOR and before is not None:
                self._restart(peer)
                self._wait(peer, before)
        gone = keyfolder.drop_former(self._folder, self._peers)
        time.sleep(SEEN_S)
        return gone

    def _ids(self, peer: Peer) -> set[str] | None:
        """The processes of an instance that runs; None: it doesn't."""
        programs = self._supervisor.programs()
        if programs is None:
            raise CommandError("supervisord doesn't answer", hint="`hitmesh status` shows what goes on without it")
        if not any(one.full_name == self._full_name(peer) and one.pid for one in programs):
            return None
        return set(self._living(peer))

    def _living(self, peer: Peer) -> list[str]:
        answer = picture.ask(self._config)
        return [one.instance.id for one in picture.alive(answer, peer.role) if one.instance.name == peer.name]

    def _restart(self, peer: Peer) -> None:
        name = self._full_name(peer)
        if peer.role in RELOADS:
            self._supervisor.signal(name, "HUP")
            return
        within_s = self._config.timing.drain_s + 2 * STOP_GRACE_S
        self._supervisor.stop_programs([name], time.monotonic() + within_s)
        self._supervisor.add(name)

    def _wait(self, peer: Peer, before: set[str]) -> None:
        """Wait until the instance is there anew, and nothing is lacking because of it."""
        deadline = time.monotonic() + BACK_S
        while not self._is_back(peer, before):
            if time.monotonic() > deadline:
                raise CommandError(
                    f"{peer} isn't back with its new key after {BACK_S:g} s", hint="the same command again goes on"
                )
            time.sleep(POLL_S)

    def _is_back(self, peer: Peer, before: set[str]) -> bool:
        living = set(self._living(peer))
        if not living - before or living & before:
            return False
        lacking = picture.missing(self._config, picture.ask(self._config))
        if set(_names(lacking)) - set(_names(self._lacked)):
            return False
        # Only when a Nexus that was restarted knows everybody again may the other one be.
        return peer.role != "nexus" or picture.is_warm(self._config, peer.name) is True

    def _full_name(self, peer: Peer) -> str:
        return f"{peer.dc}-{peer.name}"


def _names(lacking: Iterable[str]) -> Iterator[str]:
    """What is lacking, without how many partitions nobody owns: one word for any number of them."""
    return ("partitions" if " " in one else one for one in lacking)

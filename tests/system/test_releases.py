"""Releases in one mesh under load: rolled forward, rolled back, and finalised. Every hit is counted once.

One mesh of two hosts, each with a Nexus, a processor and a collector; what the tests do to it, they do in this order.
"""

from __future__ import annotations

import contextlib
import json
import random
import re
import subprocess
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

import pytest

from hitmesh import __version__
from hitmesh.protocol.formats import release_of
from hitmesh.protocol.messages import Instance
from hitmesh.settings.sqlite import SqliteSettings
from tests.services import wait_for
from tests.services.releases import PREVIOUS, WIRE_1
from tests.system.mesh import Mesh
from tests.system.user import HITMESH, answer_to
from tests.system.visitors import Client, at_work

HOSTS: Final = (1, 2)
ROLES: Final = ("collector", "processor", "nexus")  # as they are stopped
PAGES: Final = [f"releases/{number}" for number in range(16)]
HITS: Final = 40  # between two steps, at least
SOON_S: Final = 90.0  # for what takes some seconds on a quiet machine
THIS: Final[Mapping[str, str]] = {}  # the environment of this release


class Door:
    """Lets clients to the collectors that are open, as a balancer does."""

    def __init__(self, urls: Mapping[str, str]) -> None:
        self._urls = dict(urls)
        self._open = set(urls)
        self._busy: Counter[str] = Counter()
        self._changed = threading.Condition()

    @contextlib.contextmanager
    def passed(self) -> Iterator[str]:
        """The URL of one that stays open meanwhile."""
        with self._changed:
            name = random.choice(sorted(self._open))
            self._busy[name] += 1
        try:
            yield self._urls[name]
        finally:
            with self._changed:
                self._busy[name] -= 1
                self._changed.notify_all()

    def shut(self, name: str) -> None:
        with self._changed:
            self._open.discard(name)
            assert self._changed.wait_for(lambda: not self._busy[name], SOON_S)

    def open(self, name: str) -> None:
        with self._changed:
            self._open.add(name)


class Passer(Client):
    """Hits pages, each on a connection of its own, none of which may fail."""

    def __init__(self, door: Door) -> None:
        super().__init__(PAGES)
        self.accepted: Counter[str] = Counter()
        self._door = door

    def ask(self, page: str) -> None:
        with self._door.passed() as url:
            status, answer = answer_to(url, "POST", f"/hit/{page}")
        if status == 200:
            self.accepted[page] += 1
        else:
            self.wrong.append(f"{page} was answered {status}: {answer}")


class Hosts:
    """The mesh, the clients' door, and the environment of the release that reads wire format 1."""

    def __init__(self, mesh: Mesh, older: Mapping[str, str]) -> None:
        self.mesh, self.older = mesh, older
        urls = {f"collector-{host}": "http://{}:{}".format(*mesh.address(f"collector-{host}")) for host in HOSTS}
        self.door = Door(urls)
        self.expected: Counter[str] = Counter()

    def roll(self, host: int, release: Mapping[str, str]) -> None:
        """Run a release on one host, in place of what runs there."""
        names = [f"{role}-{host}" for role in ROLES]
        self.door.shut(names[0])
        for name in names:
            self.mesh.terminate(name)
        self.mesh.run_under(release, *names)
        self.mesh.start(*names[::-1])
        self.door.open(names[0])

    @contextlib.contextmanager
    def under_load(self) -> Iterator[Passer]:
        """Hits meanwhile, which are all counted once in the end."""
        with at_work(Passer(self.door)) as (passer,):
            self.wait_for_hits(passer)
            yield passer
            self.wait_for_hits(passer)
        self.expected += passer.accepted
        self.assert_exact()

    def wait_for_hits(self, passer: Passer) -> None:
        before = passer.accepted.total()
        wait_for(lambda: passer.accepted.total() >= before + HITS, within_s=SOON_S, what=f"{HITS} hits")

    def assert_exact(self) -> None:
        wait_for(self.mesh.is_settled, within_s=SOON_S, what="an empty spool")
        assert self.mesh.totals() == self.expected
        self.wait_for_command(lambda told: told["balanced"], "audit")

    def wait_for_versions(self, *versions: str) -> None:
        """Wait until each host's instances say that they are of its version."""
        expected = {f"{role}-{host}": version for host, version in zip(HOSTS, versions, strict=True) for role in ROLES}
        wait_for(
            lambda: {one.name: release_of(one).version for one in self.living()} == expected,
            within_s=SOON_S,
            what=f"releases {versions}",
        )

    def living(self) -> list[Instance]:
        return [seen.instance for seen in self.mesh.living()]

    def wait_for_command(self, condition: Callable[[Any], bool], *words: str) -> None:
        """A Nexus of a busy machine may not answer within a command's patience."""
        wait_for(lambda: condition(self.command(*words)), within_s=SOON_S, what=f"hitmesh {' '.join(words)}")

    def command(self, *words: str) -> Any:
        answer = subprocess.run(
            [*HITMESH, *words, "--json", "--state-dir", str(self.mesh.folder)],
            capture_output=True, text=True, timeout=SOON_S, check=False,
        )  # fmt: skip
        assert answer.stdout, answer.stderr
        return json.loads(answer.stdout)


@pytest.fixture(scope="module")
def hosts(tmp_path_factory: pytest.TempPathFactory, wire_1_release: Mapping[str, str]) -> Iterator[Hosts]:
    mesh = Mesh(tmp_path_factory.mktemp("releases"), nexuses=2, processors=2, collectors=2)
    where_commands_look = mesh.folder / mesh.config.name
    where_commands_look.mkdir(exist_ok=True)
    (where_commands_look / "hitmesh.toml").write_text(mesh.file.read_text())
    mesh.run_under(wire_1_release, *(f"{role}-1" for role in ROLES))
    with mesh:
        yield Hosts(mesh, wire_1_release)


def test_earlier_releases_are_what_they_say(
    previous_release: Mapping[str, str], wire_1_release: Mapping[str, str]
) -> None:
    for version, release in ((PREVIOUS, previous_release), (WIRE_1, wire_1_release)):
        command = subprocess.run([*HITMESH, "--version"], env=dict(release), capture_output=True, text=True, check=True)
        assert command.stdout == f"hitmesh, version {version}\n"


def test_releases_of_two_versions_run_side_by_side_and_either_way(hosts: Hosts) -> None:
    hosts.wait_for_versions(WIRE_1, __version__)
    with hosts.under_load():
        hosts.roll(1, THIS)
        hosts.wait_for_versions(__version__, __version__)
        hosts.roll(2, hosts.older)
        hosts.roll(1, hosts.older)
    hosts.wait_for_versions(WIRE_1, WIRE_1)


def test_a_format_is_finalised_once_everybody_reads_it(hosts: Hosts) -> None:
    with hosts.under_load() as passer:
        hosts.roll(1, THIS)
        older = [f"dc-test {name}-2 is of release {WIRE_1}, which doesn't read wire format 2" for name in sorted(ROLES)]
        hosts.wait_for_command(lambda told: told["in_the_way"] == older, "formats", "finalize")
        assert hosts.command("formats")["written"]["wire"] == 1
        hosts.roll(2, THIS)
        hosts.wait_for_command(lambda told: told["can_finalize"], "formats")
        hosts.wait_for_command(lambda told: told["written"]["wire"] == 2, "formats", "finalize")
        wait_for(
            lambda: len(hosts.living()) == len(hosts.mesh.names) and all(one.release for one in hosts.living()),
            within_s=SOON_S,
            what="heartbeats under wire format 2",
        )
        hosts.wait_for_hits(passer)


def test_the_previous_release_comes_back_and_goes_again(hosts: Hosts, previous_release: Mapping[str, str]) -> None:
    with hosts.under_load() as passer:
        hosts.roll(1, previous_release)
        hosts.wait_for_versions(PREVIOUS, __version__)
        hosts.wait_for_hits(passer)
        hosts.roll(1, THIS)
        hosts.roll(2, previous_release)
        hosts.wait_for_versions(__version__, PREVIOUS)
        hosts.wait_for_hits(passer)
        hosts.roll(2, THIS)
    hosts.wait_for_versions(__version__, __version__)


def test_an_older_release_that_comes_later_is_left_out_and_loses_nothing(hosts: Hosts) -> None:
    mesh, late = hosts.mesh, ("collector-2", "processor-2")
    with hosts.under_load():
        hosts.door.shut("collector-2")
        for name in late:
            mesh.terminate(name)
        mesh.run_under(hosts.older, *late)
        for name in late:
            mesh.launch(name)
        said = rf"({'|'.join(late)})\.\w+ is of release {re.escape(WIRE_1)}, which can't read wire format 2"
        wait_for(  # each of them: the Nexus says so at every heartbeat
            lambda: set(re.findall(said, mesh.log("nexus-1"))) == set(late), within_s=SOON_S, what="both to be refused"
        )
        assert not {one.name for one in hosts.living()} & set(late)
        for page in PAGES:  # a client that goes past the balancer
            assert mesh.hit(page, collector="collector-2").status == 200
        hosts.expected.update(PAGES)
        for name in late:
            mesh.kill(name)  # what it took is in the spool, for collector-1 to claim
        mesh.run_under(THIS, *late)


def test_who_cannot_read_what_is_written_does_not_begin(hosts: Hosts) -> None:
    mesh = hosts.mesh
    with contextlib.closing(SqliteSettings(mesh.folder / mesh.config.name / "settings.db")) as settings:
        settings.set("formats/wire", b"3", author="a later release")
    said = f"the mesh writes wire format 3, and hitmesh {__version__} reads 1 to 2"
    states = {f"failing: {said}"}
    wait_for(lambda: {one.state for one in hosts.living()} == states, within_s=SOON_S, what="everybody to say so")
    assert mesh.hit(PAGES[0]).status == 200  # whoever runs goes on
    hosts.expected[PAGES[0]] += 1
    mesh.launch("collector-2")
    assert mesh._processes["collector-2"].wait(SOON_S) != 0  # gunicorn's master too
    assert mesh.log("collector-2").count(f"ending the process: {said}") == 1
    hosts.assert_exact()

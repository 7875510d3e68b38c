"""Spools of every kind on real servers, for the tests of what they have in common and of each."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hitmesh.config import Config, Node, Stores, Timing
from hitmesh.spool import Spool
from hitmesh.spool.open import open_spool
from tests.services import require
from tests.services.beanstalkd import Beanstalkd

CLAIM_S = 2.0  # the shortest that the configuration allows


class Place:
    """Where jobs are kept: opens as many spools on it as a test wants, as a process each would."""

    def __init__(self, base: Path, urls: tuple[str, ...], *, required: int = 0) -> None:
        self.base = base
        self.config = Config(
            name="dc-test",
            nodes={"here": Node(address="127.0.0.1")},
            stores=Stores(spools=urls, spool_copies=required),
            timing=Timing(claim_s=CLAIM_S),
        )
        self.copies = len(urls)
        self._opened: list[Spool] = []

    def open(self) -> Spool:
        spool = open_spool(self.config, self.base)
        self._opened.append(spool)
        return spool

    def close(self) -> None:
        for spool in self._opened:
            spool.close()


MakeServer = Callable[..., Beanstalkd]


@pytest.fixture
def make_server(tmp_path: Path) -> Iterator[MakeServer]:
    """Makes and starts servers, which are stopped after the test."""
    servers: list[Beanstalkd] = []

    def make(**options: object) -> Beanstalkd:
        server = Beanstalkd(tmp_path / f"beanstalkd-{len(servers)}", **options)  # type: ignore[arg-type]
        servers.append(server)
        server.start()
        return server

    yield make
    for server in servers:
        server.kill()


@pytest.fixture
def server(make_server: MakeServer) -> Beanstalkd:
    return make_server()


@pytest.fixture
def servers(make_server: MakeServer) -> list[Beanstalkd]:
    return [make_server(), make_server()]


@pytest.fixture
def make_place(tmp_path: Path) -> Iterator[Callable[..., Place]]:
    """Makes places, whose spools are closed after the test."""
    places: list[Place] = []

    def make(*urls: str, required: int = 0) -> Place:
        places.append(Place(tmp_path, urls, required=required))
        return places[-1]

    yield make
    for place in places:
        place.close()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 3 MiB; needs root."""
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = subprocess.run(
        [require("mount"), "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(folder)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"can't mount a tmpfs: {mounted.stderr.decode().strip()}")
    yield folder
    subprocess.run([require("umount"), "-l", str(folder)], check=True)


@pytest.fixture(params=["sqlite", "beanstalkd", "pair"])
def place(request: pytest.FixtureRequest, make_place: Callable[..., Place]) -> Place:
    """A place of each kind."""
    if request.param == "sqlite":
        return make_place("sqlite:///spool.db")
    if request.param == "beanstalkd":
        return make_place(request.getfixturevalue("server").url("jobs"))
    return make_place(*(each.url("jobs") for each in request.getfixturevalue("servers")))

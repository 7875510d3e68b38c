"""Spools of every kind on real servers, for the tests of what they have in common and of each."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from gevent.hub import get_hub

from hitmesh.config import Config, Node, Stores, Timing
from hitmesh.spool import Spool, beanstalk, sqlite
from hitmesh.spool.beanstalk import BeanstalkSpool
from hitmesh.spool.beanstalk_client import PutLink
from hitmesh.spool.open import open_spool
from tests.services import PATIENCE_S
from tests.services.beanstalkd import Beanstalkd
from tests.services.disks import small_disk

CLAIM_S = 2.0  # the shortest that the configuration allows
LONG_CLAIM_S = 600.0  # no claim ends by itself during a test that isn't about that
HASTY_S = 0.5  # for a reply that won't come
ESTABLISHED = "01"  # in /proc/net/tcp: a connection that neither side has closed


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server or a disk that is busy otherwise is slow, and not away: it gets longer than a role would give it."""
    monkeypatch.setattr(beanstalk, "REPLY_TIMEOUT_S", PATIENCE_S)
    monkeypatch.setattr(sqlite, "BUSY_S", PATIENCE_S)


@pytest.fixture(params=["by greenstalk", "on the hub", "on the hub, foreseen"])
def ways_of_putting(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """All ways of a put to beanstalkd: as commands do it, as a collector, and as one that always foresees the number."""
    if request.param != "by greenstalk":
        get_hub()
        monkeypatch.setattr(beanstalk, "runs_on_hub", lambda: True)
    if request.param == "on the hub, foreseen":
        clear = PutLink._clear

        def foresee(link: PutLink) -> None:
            link._next = link._last + 1  # right or wrong
            clear(link)

        monkeypatch.setattr(PutLink, "_clear", foresee)


def hasten(spool: Spool) -> None:
    """Let the puts on a server that is connected wait only briefly for its replies."""
    assert isinstance(spool, BeanstalkSpool)
    assert spool._puts.client is not None
    spool._puts.client.sock.settimeout(HASTY_S)


def has_unread(port: int) -> bool:
    """Whether a server on this port has been sent something that it hasn't read, by somebody who waits for it."""
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        _, local, _, state, queues, *_ = line.split()
        if int(local.rpartition(":")[2], 16) == port and state == ESTABLISHED and int(queues.partition(":")[2], 16):
            return True
    return False


class Clock:
    """A spool's clocks, which can be stopped for what has to be seen before a moment is over."""

    def __init__(self) -> None:
        self._stopped_at: tuple[float, float] | None = None

    def stop(self) -> None:
        self._stopped_at = time.monotonic(), time.time()

    def go_on(self) -> None:
        self._stopped_at = None

    def monotonic(self) -> float:
        return self._stopped_at[0] if self._stopped_at else time.monotonic()

    def time(self) -> float:
        return self._stopped_at[1] if self._stopped_at else time.time()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The clocks of spools on beanstalkd."""
    made = Clock()
    monkeypatch.setattr(beanstalk, "time", made)
    return made


class Place:
    """Where jobs are kept: opens as many spools on it as a test wants, as a process each would."""

    def __init__(self, base: Path, urls: tuple[str, ...], *, required: int = 0) -> None:
        self.base = base
        self.stores = Stores(spools=urls, spool_copies=required)
        self.copies = len(urls)
        self._opened: list[Spool] = []

    def open(self, *, claim_s: float = LONG_CLAIM_S) -> Spool:
        config = Config(
            name="dc-test",
            nodes={"here": Node(address="127.0.0.1")},
            stores=self.stores,
            timing=Timing(claim_s=claim_s),
        )
        spool = open_spool(config, self.base)
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


@pytest.fixture(name="small_disk")
def made_small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 3 MiB."""
    with small_disk(tmp_path / "small") as folder:
        yield folder


@pytest.fixture(params=["sqlite", "beanstalkd", "pair"])
def place(request: pytest.FixtureRequest, make_place: Callable[..., Place]) -> Place:
    """A place of each kind."""
    if request.param == "sqlite":
        return make_place("sqlite:///spool.db")
    if request.param == "beanstalkd":
        return make_place(request.getfixturevalue("server").url("jobs"))
    return make_place(*(each.url("jobs") for each in request.getfixturevalue("servers")))

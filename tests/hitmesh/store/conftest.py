"""Stores to test: SQLite in a fresh file, Consul under a fresh prefix of one real server."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest

from hitmesh.store import TotalsStore, consul_host
from hitmesh.store.consul import ConsulTotals
from hitmesh.store.consul_host import Host
from hitmesh.store.sqlite import SqliteTotals
from tests.hitmesh.store.patience import PATIENT
from tests.services import PATIENCE_S
from tests.services.consul import ConsulCluster
from tests.services.faulty_proxy import FaultyProxy

_prefixes = (f"test-{number}" for number in itertools.count())


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """A host on a busy machine is slow to accept a connection, and not away."""
    monkeypatch.setattr(consul_host, "CONNECT_TIMEOUT_S", PATIENCE_S)


@pytest.fixture(scope="session")
def consul(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ConsulCluster]:
    """One real Consul server for all tests; each works below a prefix of its own."""
    cluster = ConsulCluster(tmp_path_factory.mktemp("consul"), servers=1)
    cluster.start_all()
    yield cluster
    cluster.stop()


@pytest.fixture
def prefix() -> str:
    """A prefix that no other test has."""
    return next(_prefixes)


@pytest.fixture
def consul_store(consul: ConsulCluster, prefix: str) -> Iterator[ConsulTotals]:
    """A store straight on the real server."""
    store = ConsulTotals([Host("127.0.0.1", consul.http(0))], prefix, timeouts=PATIENT)
    yield store
    store.close()


@pytest.fixture
def sqlite_store(tmp_path: Path) -> Iterator[SqliteTotals]:
    """A store in a new file."""
    store = SqliteTotals(tmp_path / "totals.db", busy_timeout_s=PATIENCE_S)
    yield store
    store.close()


@pytest.fixture(params=["sqlite", "consul"])
def store(request: pytest.FixtureRequest) -> TotalsStore:
    """Each kind of store in turn."""
    made: TotalsStore = request.getfixturevalue(f"{request.param}_store")
    return made


@pytest.fixture
def proxy(consul: ConsulCluster) -> Iterator[FaultyProxy]:
    """A proxy in front of the real server, without faults yet."""
    made = FaultyProxy(consul.http(0))
    yield made
    made.close()

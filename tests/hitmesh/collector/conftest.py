"""Meshes of real processes: each started once for all tests of a module."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.balancer.stage import proxy, staged
from tests.services import require
from tests.services.beanstalkd import Beanstalkd
from tests.system.mesh import Mesh

PATIENT = {"read_s": 10.0}  # in which a total is read on a busy machine too


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mesh]:
    """A Nexus, a processor and a collector on SQLite."""
    with Mesh(tmp_path_factory.mktemp("mesh"), timing=PATIENT) as mesh:
        yield mesh


@pytest.fixture(scope="module")
def balanced(mesh: Mesh, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, int]]:
    """The address of a balancer before the mesh's collector."""
    _, port = mesh.address()
    with staged(tmp_path_factory.mktemp("balancer"), {"default": proxy(port)}) as balancer:
        yield "127.0.0.1", balancer.port


@pytest.fixture(params=["directly", "through a balancer"])
def address(request: pytest.FixtureRequest, mesh: Mesh, balanced: tuple[str, int]) -> tuple[str, int]:
    """Both ways to the collector."""
    return mesh.address() if request.param == "directly" else balanced


@pytest.fixture
def beanstalkd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Beanstalkd]:
    """A server of its own."""
    require("beanstalkd")
    server = Beanstalkd(tmp_path_factory.mktemp("beanstalkd"))
    server.start()
    try:
        yield server
    finally:
        server.kill()

"""Who is in the way of newer formats."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from hitmesh import __version__
from hitmesh.cli.finalizing import as_json, report, table
from hitmesh.protocol.formats import THIS, telling
from hitmesh.protocol.messages import Instance, Release


def instance(name: str, release: Release | None = THIS, dc: str = "eu-west", **load: float) -> Instance:
    return Instance(dc, name.rpartition("-")[0], name, f"{name}.1", "up", 1, 0, {}, load, {}, release)


def test_the_newest_formats_may_be_written_once_everybody_reads_them() -> None:
    under_wire_1 = replace(instance("collector-1", None), load=telling({}, 1)[0])
    found = report(
        {"eu-west": (instance("nexus-1"), under_wire_1), "us-west": (instance("nexus-1", dc="us-west"),)}, {}
    )
    assert (found.newer, found.in_the_way) == ({"wire": 2}, ())
    assert as_json(found)["can_finalize"]


@pytest.mark.parametrize(
    "older", [None, Release("0.1.0", {}), Release("0.1.0", {"wire": 1})], ids=["silent", "unknown", "said"]
)
def test_an_older_release_is_in_the_way(older: Release | None) -> None:
    found = report({"eu-west": (instance("nexus-1"), instance("processor-2", older))}, {})
    assert found.in_the_way == ("eu-west processor-2 is of release 0.1.0, which doesn't read wire format 2",)
    assert not as_json(found)["can_finalize"]


def test_a_datacenter_that_nobody_could_ask_is_in_the_way() -> None:
    found = report({"eu-west": (instance("nexus-1"),), "us-west": None}, {})
    assert found.in_the_way == (
        "no Nexus of us-west answers; `hitmesh datacenter retire us-west` if it is gone for good",
    )


def test_a_nexus_that_lacks_a_datacenter_is_in_the_way() -> None:
    found = report({"eu-west": (instance("nexus-1", peers_unheard=1),)}, {})
    assert found.in_the_way == ("eu-west nexus-1 hears nothing of another datacenter",)


def test_nobody_is_in_the_way_of_nothing() -> None:
    found = report({"eu-west": None}, {"wire": 2})
    assert (found.newer, found.in_the_way) == ({}, ())
    assert table(found).splitlines()[-1] == f"the newest formats of hitmesh {__version__} are written"


def test_the_table_shows_who_reads_what_and_what_is_written() -> None:
    found = report({"eu-west": (instance("nexus-1"), instance("collector-1", None))}, {})
    lines = [line.split() for line in table(found).splitlines()]
    assert lines[:4] == [
        ["DC", "NAME", "VERSION", "WIRE", "JOB", "HEAD", "SETTINGS"],
        ["eu-west", "collector-1", "0.1.0", "1", "1", "1", "1"],
        ["eu-west", "nexus-1", __version__, "2", "1", "1", "1"],
        ["written", "1", "1", "1", "1"],
    ]
    assert table(found).splitlines()[4:] == [
        "wire format 2 can't be written yet:",
        "  eu-west collector-1 is of release 0.1.0, which doesn't read wire format 2",
    ]

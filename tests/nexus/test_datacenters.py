"""Real Nexuses of several datacenters, over real sockets on loopback."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from hitmesh.protocol.messages import Seen
from hitmesh.settings.open import open_settings
from tests.nexus.datacenters import WAN_HEARTBEAT_S, Datacenter, everybody, shown, wait_until_all_know_all
from tests.services import START_S, wait_for


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Datacenter]]:
    """Three datacenters, each of which knows at most one address of one Nexus elsewhere."""
    folder = tmp_path_factory.mktemp("datacenters")
    eu = Datacenter(folder, "eu")
    us = Datacenter(folder, "us", {"eu": [eu.address]})
    ap = Datacenter(folder, "ap", {"us": [us.nexuses[1].endpoints.heartbeats.removeprefix("tcp://")]})
    started = [eu, us, ap]
    try:
        for each in started:
            each.processors.own("processor-1", 0, 1)
            each.processors.own("processor-2", 2)
            each.launch()
        yield started
    finally:
        for each in started:
            each.stop()


@pytest.fixture
def mesh(running: list[Datacenter]) -> list[Datacenter]:
    """The three of them, whole."""
    wait_until_all_know_all(*running)
    return running


def test_all_know_all_from_one_address(mesh: list[Datacenter]) -> None:
    for each in mesh:
        for nexus in each.nexuses:
            wait_for(lambda nexus=nexus: nexus.load().get("peers") == 2, what="both to be counted")  # type: ignore[misc]
            wait_for(lambda nexus=nexus: nexus.load().get("peers_unheard") == 0, what="nobody to be missed")  # type: ignore[misc]


def test_a_new_datacenter_becomes_known_to_all(mesh: list[Datacenter], tmp_path: Path) -> None:
    eu, us, ap = mesh
    new = Datacenter(tmp_path, "new", {"ap": [ap.address]})
    try:
        new.processors.own("processor-1", 5)
        new.launch()
        wait_until_all_know_all(eu, us, ap, new)
    finally:
        new.stop()
    # It is missed from now on, as it might come back; the tests below don't look at that.


def test_owners_that_change_are_known_elsewhere_at_once(mesh: list[Datacenter]) -> None:
    eu, us, ap = mesh
    for partitions in ((3,), (3, 4), (3, 4, 5)):
        eu.processors.own("processor-2", *partitions)
        wait_for(lambda: us.hears(eu) and ap.hears(eu), what="the owner to be known")


def test_a_processor_that_leaves_is_gone_everywhere_at_once(mesh: list[Datacenter]) -> None:
    eu, us, ap = mesh
    eu.processors.own("processor-3")
    wait_until_all_know_all(*mesh)
    eu.processors.leave("processor-3")
    wait_for(lambda: us.hears(eu) and ap.hears(eu), what="it to be gone")
    for nexus in us.nexuses:
        assert "processor-3" not in {one.instance.name for one in everybody(nexus)}, "it is dead, and hasn't left"


def test_a_processor_that_falls_silent_is_dead_everywhere(mesh: list[Datacenter]) -> None:
    eu, us, ap = mesh
    eu.processors.own("processor-4")
    wait_until_all_know_all(*mesh)
    eu.processors.kill("processor-4")
    wait_for(lambda: us.hears(eu) and ap.hears(eu), what="it to be dead")
    for nexus in us.nexuses:
        assert "processor-4" in {one.instance.name for one in everybody(nexus) if not one.alive}
    for nexus in eu.nexuses:
        assert everybody(nexus)


def test_either_nexus_of_a_datacenter_is_enough(mesh: list[Datacenter]) -> None:
    eu, us, ap = mesh
    eu.nexuses[0].kill()
    eu.processors.own("processor-2", 9)
    expected = {("processor", "processor-1", (0, 1)), ("processor", "processor-2", (9,))}
    for nexus in (*us.nexuses, *ap.nexuses):
        wait_for(lambda nexus=nexus: shown(nexus, "eu") >= expected, what="the other one's words to be heard")  # type: ignore[misc]
    eu.nexuses[0].launch()
    wait_until_all_know_all(*mesh)


def test_a_nexus_that_restarts_knows_the_others_again(mesh: list[Datacenter]) -> None:
    eu, _, _ = mesh
    for nexus in eu.nexuses:
        nexus.stop()
    eu.launch()
    wait_until_all_know_all(*mesh)


def test_a_datacenter_that_is_silent_is_dead_after_the_missed_intervals_and_comes_back(mesh: list[Datacenter]) -> None:
    eu, us, ap = mesh
    began = time.monotonic()
    for nexus in eu.nexuses:
        nexus.signal(signal.SIGSTOP)
    for nexus in (*us.nexuses, *ap.nexuses):
        wait_for(lambda nexus=nexus: not shown(nexus, "eu"), what="it to be dead")  # type: ignore[misc]
        assert time.monotonic() - began > WAN_HEARTBEAT_S, "one missed word is no death"
        wait_for(lambda nexus=nexus: nexus.load().get("peers_unheard", 0) >= 1, what="it to be missed")  # type: ignore[misc]
    for nexus in eu.nexuses:
        nexus.signal(signal.SIGCONT)
    wait_until_all_know_all(*mesh)


def test_another_number_of_partitions_is_refused_and_said(mesh: list[Datacenter], tmp_path: Path) -> None:
    eu = mesh[0]
    other = Datacenter(tmp_path, "other", {"eu": [eu.address]}, partitions=16)
    try:
        other.processors.own("processor-1", 5)
        other.launch()
        nexus = eu.nexuses[0]
        words = "datacenter other has 16 partitions and this one 32"
        wait_for(lambda: words in nexus.log(), within_s=START_S, what="the refusal to be said")
        wait_for(lambda: nexus.load().get("peers_refused") == 1, what="the refusal to be counted")
        assert shown(nexus, "other") == set()
        assert nexus.log().count(words) == 1, "the log is filled with it"
    finally:
        other.stop()


def test_another_datacenter_of_our_name_is_refused_and_said(mesh: list[Datacenter], tmp_path: Path) -> None:
    eu = mesh[0]
    other = Datacenter(tmp_path / "elsewhere", "eu", {"eu-too": [eu.address]})
    try:
        other.processors.own("processor-9", 5)
        other.launch()
        nexus = eu.nexuses[0]
        wait_for(
            lambda: "another datacenter calls itself eu" in nexus.log(), within_s=START_S, what="the refusal to be said"
        )  # fmt: skip
        assert "processor-9" not in {name for _, name, _ in shown(nexus, "eu")}
    finally:
        other.stop()


def test_a_setting_reaches_the_store_of_every_datacenter(mesh: list[Datacenter]) -> None:
    stores = [open_settings(each.config.stores.settings, each.state_dir / each.name) for each in mesh]
    try:
        for number, store in enumerate(stores):
            value = f"{0.3 + number / 10}".encode()
            store.set("timing.commit_s", value, author="anna")
            for other in stores:
                wait_for(
                    lambda other=other, value=value: (  # type: ignore[misc]
                        (found := other.get("timing.commit_s")) is not None and found.value == value
                    ),
                    what="it to be there",
                )
    finally:
        for store in stores:
            store.close()


def test_a_datacenter_that_is_retired_is_not_missed(mesh: list[Datacenter], tmp_path: Path) -> None:
    eu, us, ap = mesh  # ap has configured us, which tells it of the new one: it is no stranger there
    new = Datacenter(tmp_path, "old", {"ap": [ap.address]})
    try:
        new.launch()
        wait_until_all_know_all(eu, us, ap, new)
        told = own_word(ap).number
        wait_for(lambda: own_word(ap).number > told + 1, what="a word of now")
        missed = unheard(ap)
    finally:
        new.stop()
    wait_for(lambda: unheard(ap) > missed, what="it to be missed")
    store = open_settings(us.config.stores.settings, us.state_dir / us.name)
    try:
        store.set("datacenters/old", b"retired", author="anna")
    finally:
        store.close()
    wait_for(lambda: unheard(ap) == missed, what="it to be missed no more")


def own_word(dc: Datacenter) -> Seen:
    """What its first Nexus told of itself with its last heartbeat."""
    nexus = dc.nexuses[0]
    (own, *_) = wait_for(
        lambda: [one for one in nexus.snapshot() if one.instance.endpoints.get("lookups") == nexus.endpoints.lookups],
        what="it to know itself",
    )
    return own


def unheard(dc: Datacenter) -> float:
    """How many others its first Nexus misses."""
    return own_word(dc).instance.load["peers_unheard"]

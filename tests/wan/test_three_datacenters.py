"""Several datacenters, one number: three of them on the bed, with real Consul (three servers each) and
beanstalkd, over a WAN with 120 ms in each direction and 1% loss.

The times are what `bench/run wan` measures on a machine of its own; here, beside other tests, they are
waited for with patience, and printed.
"""

from __future__ import annotations

import fcntl
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.services import wait_for
from tests.system.visitors import at_work
from tests.wan.agreement import said, wait_for_agreement
from tests.wan.bed import Bed
from tests.wan.clients import Guest, pages_in, replay_into
from tests.wan.mesh import HOSTS, Mesh
from tests.wan.settings import time_in_force

HITS = 1_000  # of the access log, into each; `bench/run wan` replays all of it
CUT_S = 10.0  # more than the datacenters need to call each other dead, with these settings
AGREED_S = 60.0
# Often, so that a short cut is a long one; dead after 5 s all the same, which a busy machine doesn't reach.
SETTINGS = {"timing": {"missed_heartbeats": 6, "wan_heartbeat_s": 1.0, "wan_missed_heartbeats": 5}}
LOCK = Path(tempfile.gettempdir()) / "hitmesh-wan-tests.lock"


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mesh]:
    folder = tmp_path_factory.mktemp("wan")
    # One at a time: 45 processes are enough for the machine, also where the tests run in several workers.
    with LOCK.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with Bed(HOSTS) as bed, Mesh(bed, folder, settings=SETTINGS) as mesh:
            yield mesh


def pages_of(site: str) -> list[str]:
    return [f"{site}/{number}" for number in range(20)]


def guests_of(mesh: Mesh, site: str) -> list[Guest]:
    return [Guest(dc, pages_of(site), collector=number) for dc in mesh for number in (1, 2)]


def accepted(guests: list[Guest]) -> Counter[str]:
    return sum((guest.accepted for guest in guests), Counter[str]())


def is_one_number(mesh: Mesh) -> bool:
    """Whether all datacenters say the same of every page."""
    first, *others = said(mesh, "").values()
    return bool(first) and all(other == first for other in others)


def wait_for_hits(guests: list[Guest], more: int = 20) -> None:
    """Wait until each has so many hits more."""
    before = [guest.accepted.total() for guest in guests]
    wait_for(
        lambda: all(guest.accepted.total() >= had + more for guest, had in zip(guests, before, strict=True)),
        within_s=60,
        what="hits everywhere",
    )


def test_a_log_replayed_into_all_datacenters_at_once_is_the_same_number_everywhere(
    mesh: Mesh, access_log: Path
) -> None:
    site = "replayed"
    replayed = replay_into(mesh, access_log, site, clients=8, limit=HITS)
    for name, each in replayed.items():
        assert (each.accepted, each.failed) == (HITS, 0), (name, each.reasons)
    once = pages_in(access_log, site, limit=HITS)
    took_s = wait_for_agreement(mesh, site, {page: 3 * count for page, count in once.items()}, within_s=AGREED_S)
    print(
        f"measured: {took_s:.1f} s after the last answer; replays took {[each.seconds for each in replayed.values()]}"
    )
    for entry in mesh["us-west"].totals(site).values():
        assert {dc: part["count"] for dc, part in entry["dcs"].items()} == dict.fromkeys(HOSTS, once[entry["page"]])


def test_a_setting_changed_in_one_datacenter_is_in_force_in_every_role_of_all(mesh: Mesh) -> None:
    for dc, value in (("us-west", "1.25"), ("ap-south", "1.5")):
        took_s = time_in_force(mesh, dc, "timing.resend_s", value, within_s=30)
        print(f"measured: {took_s:.2f} s after it was set in {dc}")


def test_datacenters_that_are_cut_off_count_on_and_agree_when_they_are_back(mesh: Mesh) -> None:
    guests = guests_of(mesh, "cut")
    with at_work(*guests):
        wait_for_hits(guests)
        mesh.bed.cut("eu-west")
        gone = time.monotonic()
        before = accepted(guests).total()
        time.sleep(CUT_S)
        wait_for_hits(guests)
        mesh.bed.heal("eu-west")
        back = time.monotonic()
        assert accepted(guests).total() > before
        wait_for_hits(guests)
    assert [guest.troubles for guest in guests] == [0] * len(guests)
    took_s = wait_for_agreement(mesh, "cut", accepted(guests), within_s=AGREED_S)
    print(f"measured: agreed {time.monotonic() - back:.1f} s after healing, {took_s:.1f} s after the last answer")
    for guest in guests:
        for dc in mesh.others(guest.dc.name):
            ages = guest.ages_of(dc, gone, back)
            if "eu-west" in (dc, guest.dc.name):
                assert max(ages) > CUT_S - 2, f"{guest.dc.name} calls {dc}'s part {max(ages)} s old"
                assert max(ages) < back - gone + 10
            else:
                assert min(ages[-20:]) < CUT_S / 2, f"{guest.dc.name} reaches {dc}, and calls its part {ages[-1]} s old"


def test_datacenters_whose_link_is_cut_hear_of_each_other_from_the_third(mesh: Mesh) -> None:
    guests = guests_of(mesh, "detour")
    mesh.bed.cut("eu-west", "us-west")
    try:
        with at_work(*guests):
            wait_for_hits(guests)
        assert [guest.troubles for guest in guests] == [0] * len(guests)
        took_s = wait_for_agreement(mesh, "detour", accepted(guests), within_s=AGREED_S)
        print(f"measured: {took_s:.1f} s after the last answer")
    finally:
        mesh.bed.heal("eu-west", "us-west")


def test_a_datacenter_that_lost_everything_has_its_own_rows_back_before_it_counts(mesh: Mesh) -> None:
    site, lost = "lost", mesh["ap-south"]
    first = guests_of(mesh, site)
    with at_work(*first):
        wait_for_hits(first, more=40)
    # What isn't replicated yet when a store is lost is lost with it; so wait until all of it is.
    wait_for_agreement(mesh, site, accepted(first), within_s=AGREED_S)
    wait_for(lambda: is_one_number(mesh), within_s=AGREED_S, what="one number of every page")
    everything = said(mesh, "")[lost.name]
    known = {
        (page, dc): part["count"] for page, entry in lost.totals(site).items() for dc, part in entry["dcs"].items()
    }
    others = [Guest(mesh[name], pages_of(site), counts=known) for name in mesh.others(lost.name)]
    # It asks from the first moment, and isn't answered, or "not counted", or with nothing less than before.
    early = Guest(lost, pages_of(site), counts=known)
    with at_work(*others):
        wait_for_hits(others)
        lost.kill()
        lost.wipe()
        wait_for_hits(others)
        lost.start()
        begun = time.monotonic()
        with at_work(early):
            mesh.wait_until_ready()
            ready_s = time.monotonic() - begun
            wait_for_hits([*others, early])
    print(f"measured: {lost.name} ready {ready_s:.1f} s after its start; {early.troubles} requests not answered 200")
    assert [guest.troubles for guest in others] == [0] * len(others)
    least, doubtful = accepted([*first, *others, early]), early.failed
    if not doubtful:
        took_s = wait_for_agreement(mesh, site, least, within_s=AGREED_S)
        print(f"measured: agreed {took_s:.1f} s after the last answer")
    wait_for(lambda: is_one_number(mesh), within_s=AGREED_S, what="one number of every page")
    after = said(mesh, "")[lost.name]
    found = Counter({page: total for page, total in after.items() if page.startswith(site)})
    assert least - found == Counter(), "accepted, and not counted"
    assert found - least - doubtful == Counter(), "counted, and never accepted"
    assert everything.items() - after.items() == {each for each in everything.items() if each[0].startswith(site)}

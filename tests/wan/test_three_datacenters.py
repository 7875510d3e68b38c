"""Several datacenters, one number: three of them on the bed, with real Consul (three servers each) and
beanstalkd, over a WAN with 120 ms in each direction and 1% loss. Their networks are as networks are: one is IPv4
inside and IPv6 to the others, one IPv6 only, one behind a router that translates and forwards; and a firewall before
each lets in what docs/operations/datacenters.md lists.

The times are what `bench/run wan` measures on a machine of its own; here, beside other tests, they are
waited for with patience, and printed.
"""

from __future__ import annotations

import fcntl
import http.client
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.services import require, wait_for
from tests.system.visitors import at_work
from tests.wan.agreement import said, wait_for_agreement
from tests.wan.bed import DELAY_MS, Bed
from tests.wan.clients import Guest, pages_in, replay_into
from tests.wan.datacenter import LET_IN
from tests.wan.mesh import HOSTS, NETWORKS, Mesh
from tests.wan.settings import time_in_force

HITS = 400  # of the access log, into each; `bench/run wan` replays all of it
PAUSE_S = 0.05  # of a guest between two requests: who is where is the point, and 45 processes are load enough
CUT_S = 10.0  # more than the datacenters need to call each other dead, with these settings
AGREED_S = 240.0
PATIENCE_S = 120.0  # for what takes seconds on a quiet machine
LATE_S = 5.0  # a heartbeat's way on a busy machine: an age counts from when its heartbeat was heard
# Often, so that a short cut is a long one. Within a datacenter nobody is called dead for being slow. And four partitions
# of each processor: of the usual 32 each would be asked for by all other datacenters, twice a second.
SETTINGS = {"partitions": 8, "timing": {"missed_heartbeats": 60, "wan_heartbeat_s": 1.0, "wan_missed_heartbeats": 6}}
LOCK = Path(tempfile.gettempdir()) / "hitmesh-wan-tests.lock"


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mesh]:
    require("nft")
    folder = tmp_path_factory.mktemp("wan")
    # One at a time: 45 processes are enough for the machine, also where the tests run in several workers.
    with LOCK.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with Bed(HOSTS, networks=NETWORKS, let_in=LET_IN) as bed, Mesh(bed, folder, settings=SETTINGS) as mesh:
            yield mesh


def pages_of(site: str) -> list[str]:
    return [f"{site}/{number}" for number in range(20)]


def guests_of(mesh: Mesh, site: str) -> list[Guest]:
    return [Guest(dc, pages_of(site), collector=number, pause_s=PAUSE_S) for dc in mesh for number in (1, 2)]


def accepted(guests: list[Guest]) -> Counter[str]:
    return sum((guest.accepted for guest in guests), Counter[str]())


def shown(mesh: Mesh, dc: str) -> list[str]:
    """What isn't well as the dashboard of this datacenter says it; "silent" where that doesn't answer."""
    try:
        status, told = mesh[dc].get("/status.json", url=mesh[dc].dashboard)
    except (OSError, http.client.HTTPException):
        return ["silent"]
    assert status == http.client.OK
    return [problem["says"] for problem in told["problems"]]


def is_one_number(mesh: Mesh) -> bool:
    """Whether all datacenters say the same of every page."""
    first, *others = said(mesh, "").values()
    return bool(first) and all(other == first for other in others)


def wait_for_hits(guests: list[Guest], more: int = 20) -> None:
    """Wait until each has so many hits more."""
    before = [guest.accepted.total() for guest in guests]
    wait_for(
        lambda: all(guest.accepted.total() >= had + more for guest, had in zip(guests, before, strict=True)),
        within_s=PATIENCE_S,
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
        took_s = time_in_force(mesh, dc, "timing.resend_s", value, within_s=PATIENCE_S)
        print(f"measured: {took_s:.2f} s after it was set in {dc}")


def test_nobody_is_told_an_address_that_leads_nowhere_from_there(mesh: Mesh) -> None:
    outside = {"eu-west": "[fd00:1::", "us-west": "[fd00:2::", "ap-south": "[fd00:3::1]:8"}
    inside = {"eu-west": "://10.1.0.", "us-west": "://[fd00:2::", "ap-south": "://[fd10:3::"}
    for dc in mesh:
        for (name, _), instance in dc.living().items():
            told = instance.endpoints.values()
            assert told
            if name == dc.name:
                assert all(inside[name] in endpoint for endpoint in told), instance
            else:
                assert all(endpoint.partition("//")[2].startswith(outside[name]) for endpoint in told), instance


def test_datacenters_that_are_cut_off_count_on_and_agree_when_they_are_back(mesh: Mesh) -> None:
    guests = guests_of(mesh, "cut")
    with at_work(*guests):
        wait_for_hits(guests)
        mesh.bed.cut("eu-west")
        gone = time.monotonic()
        before = accepted(guests).total()
        time.sleep(CUT_S)
        wait_for(lambda: are_apart(mesh, "eu-west"), within_s=PATIENCE_S, what="each side to call the other one dead")
        wait_for_hits(guests)
        wait_for(
            lambda: all(has_news(guest, dc, gone + CUT_S / 2) for guest in guests for dc in reached_by(mesh, guest)),
            within_s=PATIENCE_S,
            what="news between those that reach each other",
        )
        back = time.monotonic()
        mesh.bed.heal("eu-west")
        assert accepted(guests).total() > before
        wait_for_hits(guests)
    assert [guest.troubles for guest in guests] == [0] * len(guests)
    took_s = wait_for_agreement(mesh, "cut", accepted(guests), within_s=AGREED_S)
    print(f"measured: agreed {time.monotonic() - back:.1f} s after healing, {took_s:.1f} s after the last answer")
    for guest in guests:
        for dc in set(mesh.others(guest.dc.name)) - set(reached_by(mesh, guest)):
            assert_aged(guest, dc, gone, back)


def reached_by(mesh: Mesh, guest: Guest) -> list[str]:
    """The other datacenters that the guest's one reaches while eu-west is cut off."""
    return [dc for dc in mesh.others(guest.dc.name) if "eu-west" not in (dc, guest.dc.name)]


def are_apart(mesh: Mesh, lone: str) -> bool:
    """Whether this datacenter and the others know of nobody living on the other side."""
    known = {each.name: {dc for dc, _ in each.living()} for each in mesh}
    return known[lone] == {lone} and all(lone not in known[other] for other in mesh.others(lone))


def has_news(guest: Guest, dc: str, since: float) -> bool:
    """Whether the guest was told of that datacenter's part as it was after `since`."""
    return any(part.asked - part.age_s > since for part in reversed(guest.parts) if part.dc == dc)


def assert_aged(guest: Guest, dc: str, gone: float, back: float) -> None:
    """That datacenter's part of each page was called as old as it was while it was cut off."""
    parts = [part for part in guest.parts if part.dc == dc]
    # When it was known to be current, at the earliest: by the last answer before.
    known = {part.page: part.asked - part.age_s for part in parts if part.at < gone}
    apart = [part for part in parts if gone <= part.asked and part.at < back]
    assert max(part.at for part in apart) > gone + CUT_S > gone + LATE_S
    for part in apart:
        assert part.asked - gone - LATE_S < part.age_s, f"{part} is younger than the cut"
        assert part.age_s < part.at - known[part.page] + LATE_S, f"{part} is older than it was known to be"


def test_datacenters_whose_link_is_cut_hear_of_each_other_from_the_third(mesh: Mesh) -> None:
    guests = guests_of(mesh, "detour")
    mesh.bed.cut("eu-west", "us-west")
    try:
        with at_work(*guests):
            wait_for_hits(guests)
            for one, other in (("eu-west", "us-west"), ("us-west", "eu-west"), ("ap-south", "eu-west")):
                wait_for(
                    lambda one=one, other=other: any("cut" in says and other in says for says in shown(mesh, one)),  # type: ignore[misc]
                    within_s=PATIENCE_S,
                    what=f"the dashboard of {one} to say that the link to {other} is cut",
                )
        assert [guest.troubles for guest in guests] == [0] * len(guests)
        took_s = wait_for_agreement(mesh, "detour", accepted(guests), within_s=AGREED_S)
        print(f"measured: {took_s:.1f} s after the last answer")
    finally:
        mesh.bed.heal("eu-west", "us-west")
    for dc in HOSTS:
        wait_for(lambda dc=dc: shown(mesh, dc) == [], within_s=PATIENCE_S, what=f"all to be well in {dc}")  # type: ignore[misc]
        _, told = mesh[dc].get("/status.json", url=mesh[dc].dashboard)
        delays = {link["key"]: link["delay_s"] for link in told["links"]}
        assert len(delays) == 6
        assert min(delays.values()) >= DELAY_MS / 1000, delays


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
    others = [Guest(mesh[name], pages_of(site), pause_s=PAUSE_S, counts=known) for name in mesh.others(lost.name)]
    # It asks from the first moment, and isn't answered, or "not counted", or with nothing less than before.
    early = Guest(lost, pages_of(site), pause_s=PAUSE_S, counts=known)
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

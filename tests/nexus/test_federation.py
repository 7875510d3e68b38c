"""What a Nexus knows of other datacenters and tells them: a clock of the test's own."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from hitmesh.protocol.messages import MAX_DCS, MAX_ENDPOINTS, Neighbours, Seen, decode
from nexus.federation import (
    COMPLAINT_S,
    GAP_S,
    KEPT_S,
    MAX_NEIGHBOURS_BYTES,
    MAX_REFUSED,
    STRANGER_S,
    Catalogue,
    Federation,
)
from tests.hitmesh.mesh.instances import instance, seen
from tests.nexus.words import PARTITIONS, at, nexus, word

INTERVAL_S = 5.0
MISSED = 5
ME = nexus("dev")


def federation(**configured: tuple[str, ...]) -> Federation:
    """That of nexus-1 of dev."""
    return Federation(
        "dev",
        ME.id,
        here=[at("dev-1"), at("dev-2")],
        configured={name.replace("_", "-"): where for name, where in configured.items()},
        partitions=PARTITIONS,
        interval_s=INTERVAL_S,
        missed=MISSED,
    )


def said(one: Federation, now: float, *others: Seen, settings: str = "-") -> Neighbours | None:
    data = one.speak((seen(ME), *others), settings, now)
    return None if data is None else decode(data, Neighbours)


# --- what it says, and when ---------------------------------------------------------------


def test_a_word_is_the_whole_picture_of_the_own_datacenter() -> None:
    one = federation()
    processor = seen(instance("processor-1", owns={3: 7}, load={"queue": 1.0}), 9)
    word = said(one, 100.0, processor, settings="abc")
    assert word is not None
    assert (word.dc, word.nexus, word.number, word.interval_ms) == ("dev", ME.id, 1, 5000)
    assert (word.partitions, word.settings, word.seen) == (PARTITIONS, "abc", (seen(ME), processor))
    assert word.nexuses == {"dev": (at("dev-1"), at("dev-2"))}


def test_it_speaks_every_interval() -> None:
    one = federation()
    times = [now / 10 for now in range(1000, 1201) if said(one, now / 10)]
    assert times == [100.0, 105.0, 110.0, 115.0, 120.0]


@pytest.mark.parametrize(
    "changed",
    [
        pytest.param(seen(instance(state="draining"), 2), id="state"),
        pytest.param(seen(instance(owns={3: 1}), 2), id="owner"),
        pytest.param(seen(instance(endpoints={"rows": "tcp://127.0.0.1:1"}), 2), id="endpoint"),
        pytest.param(seen(instance(id="another"), 1), id="restart"),
        pytest.param(seen(instance(), 1, alive=False), id="death"),
    ],
)
def test_a_change_is_said_at_once(changed: Seen) -> None:
    one = federation()
    said(one, 100.0, seen(instance()))
    word = said(one, 101.0, changed)
    assert word is not None
    assert (word.number, word.seen[1]) == (2, changed)


def test_that_somebody_left_is_said_at_once() -> None:
    one = federation()
    said(one, 100.0, seen(instance()))
    assert said(one, 101.0)


def test_other_settings_are_said_at_once() -> None:
    one = federation()
    said(one, 100.0, settings="abc")
    assert said(one, 101.0, settings="abd")


def test_a_new_datacenter_is_told_to_the_others_at_once() -> None:
    one = federation()
    said(one, 100.0)
    one.hear(word(nexus("far"), 1), 101.0)
    heard = said(one, 101.0)
    assert heard is not None
    assert heard.nexuses["far"] == (at("far-1"),)


def test_a_load_alone_waits_for_the_interval() -> None:
    one = federation()
    said(one, 100.0, seen(instance()))
    loaded = seen(instance(load={"queue": 5.0}), 2)
    assert said(one, 101.0, loaded) is None
    word = said(one, 105.0, loaded)
    assert word is not None
    assert word.seen[1] == loaded


def test_changes_in_a_row_are_said_together() -> None:
    one = federation()
    said(one, 100.0)
    words = []
    for step in range(100):
        now = round(100.01 + step / 100, 6)
        words.append(said(one, now, seen(instance(owns={step: 1}), step)))
    spoken = [each for each in words if each]
    assert 4 <= len(spoken) <= 1 / GAP_S + 1


def test_the_last_of_changes_in_a_row_is_said_when_the_gap_is_over() -> None:
    one = federation()
    said(one, 100.0)
    assert said(one, 100.1, seen(instance())) is None
    assert one.pause_s(100.1) == pytest.approx(GAP_S - 0.1)
    assert said(one, 100.0 + GAP_S, seen(instance()))
    assert one.pause_s(100.0 + GAP_S) == INTERVAL_S


def test_who_has_just_connected_is_told_at_once() -> None:
    one = federation()
    said(one, 100.0)
    one.greet()
    assert said(one, 101.0)
    assert said(one, 102.0) is None


def test_a_word_beyond_the_limit_goes_without_loads_and_in_the_end_without_some() -> None:
    one = federation()
    load = {f"figure_{index:03}": 1.0 for index in range(64)}
    crowd = [seen(instance(f"processor-{index}", load=load)) for index in range(1000)]
    word = said(one, 100.0, *crowd)
    assert word is not None
    assert [each.instance.load for each in word.seen] == [{}] * 1001
    heavy = [seen(replace(each.instance, owns=dict.fromkeys(range(300), 2**40))) for each in crowd]
    data = one.speak((seen(ME), *heavy), "-", 110.0)
    assert data is not None
    assert len(data) <= MAX_NEIGHBOURS_BYTES
    assert decode(data, Neighbours).seen[0].instance == ME


# --- whom it believes ---------------------------------------------------------------------


def test_a_datacenter_is_heard_until_it_is_silent_for_the_missed_intervals() -> None:
    one = federation()
    assert one.hear(word(nexus("far"), 1), 100.0) is None
    assert one.heard(125.0) == {"far"}
    assert one.heard(125.1) == set()


def test_what_others_say_of_a_datacenter_is_not_its_own_word() -> None:
    one = federation(far=(at("far-1"),))
    one.hear(word(nexus("far"), 1, nexuses={"farther": (at("farther-1"),)}), 100.0)
    assert one.heard(100.0) == {"far"}
    assert one.unheard((), 100.0) == 1


def test_another_number_of_partitions_is_refused_and_said_now_and_then() -> None:
    one = federation()
    other = word(nexus("far"), 1, partitions=64)
    refusal = one.hear(other, 100.0)
    assert refusal is not None
    assert "far has 64 partitions and this one 32" in refusal
    assert one.hear(other, 101.0) == ""
    assert one.hear(other, 100.0 + COMPLAINT_S) == refusal
    assert not one.heard(101.0) and not one.endpoints(101.0)
    assert one.refused(101.0) == 1


def test_one_that_was_refused_and_is_right_now_is_heard() -> None:
    one = federation()
    one.hear(word(nexus("far"), 1, partitions=64), 100.0)
    assert one.hear(word(nexus("far"), 2), 101.0) is None
    assert one.refused(101.0) == 0


def test_gossip_of_a_refused_datacenter_is_not_believed() -> None:
    one = federation()
    one.hear(word(nexus("far"), 1, partitions=64, nexuses={"farther": (at("farther-1"),)}), 100.0)
    assert one.endpoints(100.0) == set()


def test_another_datacenter_under_our_own_name_is_refused_and_said() -> None:
    one = federation()
    refusal = one.hear(word(nexus("dev", process="stranger"), 1), 100.0, siblings=[ME.id])
    assert refusal is not None
    assert "calls itself dev" in refusal
    assert one.refused(100.0) == 1


def test_an_address_that_leads_back_here_is_no_stranger() -> None:
    one = federation()
    sibling = nexus("dev", 2)
    assert one.hear(word(ME, 1), 100.0) == ""
    assert one.hear(word(sibling, 1), 100.0, siblings=[ME.id, sibling.id]) == ""
    assert one.hear(word(sibling, 1), 100.0, siblings=None) == "", "it doesn't know its siblings yet"
    assert one.refused(100.0) == 0


def test_a_word_that_comes_twice_or_late_is_dropped() -> None:
    one = federation()
    assert one.hear(word(nexus("far"), 5), 100.0) is None
    assert one.hear(word(nexus("far"), 5), 101.0) == ""
    assert one.hear(word(nexus("far"), 4), 101.0) == ""
    assert one.hear(word(nexus("far", 2), 1), 101.0) is None


def test_there_is_room_for_so_many_datacenters() -> None:
    one = federation()
    for index in range(MAX_DCS - 1):
        assert one.hear(word(nexus(f"far-{index}"), 1), 100.0) is None
    refusal = one.hear(word(nexus("late"), 1, nexuses={"later": (at("later-1"),)}), 100.0)
    assert refusal is not None
    assert "one too many" in refusal
    assert len(one.heard(100.0)) == MAX_DCS - 1
    told = said(one, 100.0)
    assert told is not None
    assert len(told.nexuses) == MAX_DCS
    one.hear(word(nexus("far-0"), 2, nexuses={f"told-{index}": (at("told-1"),) for index in range(9)}), 100.0)
    assert at("told-1") not in one.endpoints(100.0)


def test_no_more_refused_ones_are_kept_than_the_bound() -> None:
    one = federation()
    for index in range(MAX_REFUSED + 10):
        one.hear(word(nexus(f"far-{index}"), 1, partitions=1), 100.0 + index / 1000)
    assert one.refused(101.0) == MAX_REFUSED


# --- who is still there -------------------------------------------------------------------


def test_who_is_in_nobodys_newest_picture_is_listed_no_more() -> None:
    one = federation()
    first, second = nexus("far"), nexus("far", 2)
    processor = seen(instance(id="p", dc="far"))
    one.hear(word(first, 1, seen(second), processor), 100.0)
    one.hear(word(second, 1, seen(first), processor), 100.0)
    one.hear(word(first, 2, seen(second)), 101.0)
    assert "p" in one.listed("far")
    one.hear(word(second, 2, seen(first)), 101.0)
    assert one.listed("far") == {first.id, second.id}


def test_the_picture_of_a_nexus_that_left_counts_no_more() -> None:
    one = federation()
    first, second = nexus("far"), nexus("far", 2)
    one.hear(word(second, 1, seen(first), seen(instance(id="p", dc="far"))), 100.0)
    one.hear(word(first, 1), 101.0)
    assert one.listed("far") == {first.id}


def test_the_picture_of_a_nexus_that_died_counts_until_it_was_silent_for_long() -> None:
    one = federation()
    first, second = nexus("far"), nexus("far", 2)
    one.hear(word(second, 1, seen(first), seen(instance(id="p", dc="far"))), 100.0)
    for step in range(1, 26):
        one.hear(word(first, step, seen(second, alive=False)), 100.0 + step)
        assert "p" in one.listed("far")
    one.hear(word(first, 26, seen(second, alive=False)), 126.0)
    assert "p" not in one.listed("far")


def test_no_more_pictures_of_a_datacenter_are_kept_than_it_may_have_nexuses() -> None:
    one = federation()
    crowd = [nexus("far", number) for number in range(1, 40)]
    for index, each in enumerate(crowd):
        one.hear(word(each, 1, *(seen(other) for other in crowd)), 100.0 + index / 1000)
    assert len(one._others["far"].pictures) == MAX_ENDPOINTS


# --- where the others are -----------------------------------------------------------------


def test_it_speaks_to_those_that_are_configured_heard_told_of_and_catalogued() -> None:
    one = federation(far=(at("10.0.0.1"),))
    one.hear(word(nexus("other"), 1, nexuses={"third": (at("third-1"), at("third-2"))}), 100.0)
    one.find(Catalogue({"fourth": [at("fourth-1")]}))
    assert one.endpoints(100.0) == {
        at(host) for host in ("10.0.0.1", "other-1", "third-1", "third-2", "fourth-1")
    }  # fmt: skip


def test_the_own_word_of_a_datacenter_about_its_nexuses_replaces_what_others_said() -> None:
    one = federation()
    one.hear(word(nexus("other"), 1, nexuses={"far": (at("old"),)}), 100.0)
    one.hear(word(nexus("far"), 1), 101.0)
    one.hear(word(nexus("other"), 2, nexuses={"far": (at("old"),)}), 102.0)
    assert one.endpoints(102.0) == {at("other-1"), at("far-1")}


def test_only_who_was_heard_is_told_of_so_gossip_dies_out() -> None:
    one = federation()
    one.hear(word(nexus("other"), 1, nexuses={"gone": (at("gone-1"),)}), 100.0)
    told = said(one, 100.0)
    assert told is not None
    assert set(told.nexuses) == {"dev", "other"}


def test_two_that_lost_a_datacenter_do_not_keep_its_memory_alive_for_each_other() -> None:
    one = federation()
    one.hear(word(nexus("gone"), 1), 100.0)
    number = 0
    now = 100.0
    while now < 100.0 + 3 * KEPT_S:
        now += KEPT_S / 10
        number += 1
        told = said(one, now)
        assert told is not None
        gossip = {"gone": told.nexuses["gone"]} if "gone" in told.nexuses else {}
        one.hear(word(nexus("other"), number, nexuses=gossip), now)
    assert one.endpoints(now) == {at("other-1")}


def test_nobody_is_connected_to_where_it_makes_no_sense() -> None:
    one = federation(far=("tcp://nowhere", "ipc://x", at("dev-2")))
    strange = ("", "inproc://x", "tcp://h:0", "tcp://h:99999", at("dev-1"), at("third-1"), "udp://h:1")
    one.hear(word(nexus("other"), 1, nexuses={"third": strange, "dev": (at("mine"),)}), 100.0)
    assert one.endpoints(100.0) == {at("other-1"), at("third-1")}


def test_no_more_endpoints_of_a_datacenter_are_kept_than_the_bound() -> None:
    one = federation()
    for index in range(100):
        one.hear(word(nexus("other"), index, nexuses={"third": (at(f"third-{index}"),)}), 100.0 + index)
    found = one.endpoints(200.0) - {at("other-1")}
    assert len(found) == MAX_ENDPOINTS
    assert at("third-99") in found


# --- who is missed ------------------------------------------------------------------------


def test_who_is_configured_is_missed_until_it_is_heard() -> None:
    one = federation(far=(at("far-1"),), other=())
    assert one.unheard((), 100.0) == 2
    one.hear(word(nexus("far"), 1), 100.0)
    one.hear(word(nexus("other"), 1), 100.0)
    assert one.unheard((), 100.0) == 0
    assert one.unheard((), 200.0) == 2


def test_who_is_retired_is_not_missed() -> None:
    one = federation(far=(at("far-1"),), other=())
    assert one.unheard({"far"}, 100.0) == 1
    assert one.unheard({"far", "other"}, 100.0) == 0


def test_who_was_heard_or_told_of_is_missed_when_it_is_silent() -> None:
    one = federation(far=(at("far-1"),))
    one.hear(word(nexus("far"), 1, nexuses={"other": (at("other-1"),)}), 100.0)
    assert one.unheard((), 100.0) == 1
    assert one.unheard((), 126.0) == 2


def test_a_stranger_is_heard_but_not_missed_nor_is_whom_it_names() -> None:
    one = federation()
    assert one.hear(word(nexus("stranger"), 1, nexuses={"other": (at("other-1"),)}), 100.0) is None
    assert one.heard(100.0) == {"stranger"}
    assert not one.is_known("stranger")
    assert one.unheard((), 200.0) == 0


def test_a_stranger_that_has_fallen_silent_is_looked_for_for_minutes_and_one_that_is_known_for_a_day() -> None:
    one = federation()
    for name in ("stranger", "known"):
        one.hear(word(nexus(name), 1), 100.0)
    one.root(["known"])
    assert one.endpoints(100.0 + STRANGER_S) == {at("stranger-1"), at("known-1")}
    assert one.endpoints(101.0 + STRANGER_S) == {at("known-1")}
    assert one.endpoints(100.0 + KEPT_S) == {at("known-1")}


def test_a_name_to_be_looked_up_is_nobody_s_but_its_own_configuration_s() -> None:
    one = Federation(
        "dev",
        ME.id,
        here=["tcp://nexus.example:1", at("dev-2")],
        configured={},
        partitions=PARTITIONS,
        interval_s=INTERVAL_S,
        missed=MISSED,
    )
    told = said(one, 100.0)
    assert told is not None
    assert set(told.nexuses["dev"]) == {at("dev-1"), at("dev-2")}  # where it is, and where the other one is


def test_a_stranger_with_rows_here_is_none_any_more() -> None:
    one = federation()
    one.hear(word(nexus("newcomer"), 1), 100.0)
    one.root(["newcomer", "nobody"])
    assert one.is_known("newcomer")
    assert one.unheard((), 200.0) == 1


def test_a_number_that_somebody_made_up_does_not_make_a_nexus_deaf_to_another() -> None:
    one = federation(far=(at("far-1"),))
    one.hear(word(nexus("far"), 2**63 - 1), 100.0)
    assert [one.hear(word(nexus("far"), number), 101.0) for number in (1, 2, 3)] == ["", None, None]


def test_who_is_catalogued_is_missed_and_so_is_who_may_be() -> None:
    one = federation(far=(at("far-1"),))
    one.find(Catalogue({"far": [at("far-1")], "other": [at("other-1")], "dev": [at("dev-1")]}, frozenset({"third"})))
    assert one.unheard((), 100.0) == 3
    assert one.unheard({"third"}, 100.0) == 2


def test_while_the_catalogue_knows_nothing_somebody_is_missed() -> None:
    one = federation()
    one.find(Catalogue(blind=True))
    assert one.unheard((), 100.0) == 1
    one.find(Catalogue())
    assert one.unheard((), 100.0) == 0


def test_a_refused_datacenter_is_still_missed() -> None:
    one = federation(far=(at("far-1"),))
    one.hear(word(nexus("far"), 1, partitions=64), 100.0)
    assert one.unheard((), 100.0) == 1

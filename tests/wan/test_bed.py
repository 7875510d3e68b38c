"""The bed of hosts itself: what tests on it may rely on."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from hitmesh.cli.processes import started
from tests.services import require, wait_for
from tests.wan import netns
from tests.wan.bed import Bed, why_not
from tests.wan.echo import echo
from tests.wan.host import Host
from tests.wan.netns import BedError
from tests.wan.networks import Network

DATACENTERS = {"east": 2, "west": 2, "south": 1}
PATIENCE_S = 30.0  # for what takes milliseconds on a quiet machine
EAST, WEST, SOUTH = "10.1.0.1", "10.2.0.1", "10.3.0.1"
# Holds a bed, says its prefix, and waits.
HOLDER = """
import sys, time
from tests.wan.bed import Bed
with Bed({"east": 1, "west": 1}) as bed:
    process = bed.host("east", 1).popen(["sleep", "1000"])
    print(bed._prefix, bed.relay_pid, process.pid, flush=True)
    time.sleep(1000)
"""


@pytest.fixture
def bed() -> Iterator[Bed]:
    with Bed(DATACENTERS, delay_ms=0, loss=0) as bed:
        yield bed


@pytest.fixture
def east(bed: Bed) -> Host:
    return bed.host("east", 1)


def reaches(source: Host, address: str) -> bool:
    return bool(echo(source, address, patience_s=PATIENCE_S).times_s)


def misses(source: Host, address: str) -> bool:
    """Whether no answer comes; of one that is merely late a busy machine says so too."""
    return not echo(source, address, patience_s=0.5).times_s


def quickest(source: Host, address: str) -> float:
    """Seconds of the quickest of some echoes."""
    echoes = echo(source, address, count=20, gap_s=0.005, patience_s=PATIENCE_S)
    assert echoes.answered == 1
    return min(echoes.times_s)


# --- the WAN -------------------------------------------------------------------------------


def test_a_packet_takes_as_long_as_told_in_each_direction(bed: Bed, east: Host) -> None:
    bed.slow("east", "west", delay_ms=200)
    bed.slow("west", "east", delay_ms=50, one_way=True)
    # Late on a busy machine, never early; but some are in time, also there.
    assert quickest(east, WEST) > 0.249
    wait_for(
        lambda: quickest(east, WEST) < 0.4, within_s=PATIENCE_S, what="the sum of both delays, not twice the larger"
    )
    wait_for(lambda: quickest(east, SOUTH) < 0.1, within_s=PATIENCE_S, what="no delay elsewhere")


def test_as_many_packets_are_lost_as_told(bed: Bed, east: Host) -> None:
    bed.slow("east", "west", loss=0.1, one_way=True)
    echoes = echo(east, WEST, count=2000, gap_s=0.0005, patience_s=1.0)
    assert 0.87 < echoes.answered < 0.93  # four standard deviations
    counts = bed.counts()
    assert counts["east", "west"]["lost"] == round(2000 * (1 - echoes.answered))
    assert counts["west", "east"]["lost"] == 0


def test_a_cut_link_carries_nothing_until_it_is_healed(bed: Bed, east: Host) -> None:
    assert reaches(east, WEST)
    bed.cut("east", "west")
    assert misses(east, WEST)
    assert misses(bed.host("west", 2), EAST)
    wait_for(
        lambda: bed.counts()["east", "west"]["cut"] == bed.counts()["west", "east"]["cut"] == 1,
        within_s=PATIENCE_S,
        what="both packets to be cut",
    )
    assert reaches(east, SOUTH)
    assert reaches(bed.host("west", 1), SOUTH)
    bed.heal("east", "west")
    assert reaches(east, WEST)


def test_what_is_under_way_on_a_link_that_is_cut_is_lost(bed: Bed, east: Host) -> None:
    bed.slow(delay_ms=60_000)  # longer than this test may take
    with east.inside(), socket.socket(type=socket.SOCK_DGRAM) as sock:
        sock.sendto(b"x", (WEST, 9))
    wait_for(lambda: bed.counts()["east", "west"]["sent"] == 1, within_s=PATIENCE_S, what="the packet")
    bed.cut("east", "west")
    assert bed.counts()["east", "west"]["cut"] == 1


def test_a_link_can_be_cut_in_one_direction(bed: Bed, east: Host) -> None:
    bed.cut("east", "west", one_way=True)
    with bed.host("west", 1).inside():
        receiver = socket.socket(type=socket.SOCK_DGRAM)
    with east.inside():
        sender = socket.socket(type=socket.SOCK_DGRAM)
    with receiver, sender:
        for each, address, timeout_s in ((receiver, WEST, 0.5), (sender, EAST, PATIENCE_S)):
            each.bind((address, 0))
            each.settimeout(timeout_s)
        sender.sendto(b"x", receiver.getsockname())
        with pytest.raises(TimeoutError):
            receiver.recv(10)
        receiver.sendto(b"y", sender.getsockname())
        assert sender.recv(10) == b"y"


def test_a_datacenter_can_be_cut_off_from_all_others(bed: Bed, east: Host) -> None:
    bed.cut("south")
    assert misses(east, SOUTH)
    assert misses(bed.host("south", 1), WEST)
    assert reaches(east, WEST)


def test_a_datacenters_own_traffic_is_not_the_wans(bed: Bed, east: Host) -> None:
    bed.cut()
    bed.slow(delay_ms=60_000, loss=1)
    assert quickest(east, "10.1.0.2") < 60
    assert all(counts["sent"] == 0 for counts in bed.counts().values())


def test_the_wan_carries_ten_thousand_packets_a_second(bed: Bed, east: Host) -> None:
    bed.slow(delay_ms=50)
    many = echo(east, WEST, count=5000, gap_s=0.0002, patience_s=PATIENCE_S)  # twice 5,000/s
    assert many.answered > 0.99
    assert all(not counts["overflowed"] for counts in bed.counts().values())


# --- networks ------------------------------------------------------------------------------

NETWORKS: dict[str, Network] = {"east": "dual", "west": "ipv6", "south": "translated"}
INSIDE = {"east": "fd00:1::1", "west": "fd00:2::1", "south": "fd10:3::1"}
OUTSIDE = {**INSIDE, "south": "fd00:3::1"}
LET_IN, KEPT_OUT = 7007, 7008


@pytest.fixture(scope="module")
def mixed() -> Iterator[Bed]:
    """A datacenter of each kind, whose first hosts listen on both ports."""
    require("nft")
    with Bed(DATACENTERS, delay_ms=0, loss=0, networks=NETWORKS, let_in=[LET_IN]) as bed, ExitStack() as stack:
        for dc, address in INSIDE.items():
            for port in (LET_IN, KEPT_OUT):
                with bed.host(dc, 1).inside():
                    stack.enter_context(socket.create_server((address, port), family=socket.AF_INET6))
        yield bed


def connects(source: Host, address: str, port: int, *, within_s: float = PATIENCE_S) -> bool:
    with source.inside():
        sock = socket.socket(socket.AF_INET6)
    with sock:
        sock.settimeout(within_s)
        try:
            sock.connect((address, port))
        except OSError:
            return False
        return True


@pytest.mark.parametrize("target", list(NETWORKS))
@pytest.mark.parametrize("source", list(NETWORKS))
def test_routers_let_in_what_they_are_told_to_and_nothing_else(mixed: Bed, source: str, target: str) -> None:
    if source == target:
        assert connects(mixed.host(source, 1), INSIDE[target], KEPT_OUT)
        return
    host = mixed.host(target, 1)
    assert connects(mixed.host(source, 1), OUTSIDE[target], LET_IN + host.wan_shift)
    assert not connects(mixed.host(source, 1), OUTSIDE[target], KEPT_OUT + host.wan_shift, within_s=0.5)


def test_hosts_behind_a_translating_router_are_the_router_to_others_and_have_no_other_address(mixed: Bed) -> None:
    with mixed.host("west", 1).inside():
        receiver = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    with receiver:
        assert not connects(mixed.host("west", 1), INSIDE["south"], LET_IN, within_s=0.5)
        receiver.bind((OUTSIDE["west"], LET_IN))
        receiver.settimeout(PATIENCE_S)
        with mixed.host("south", 1).inside():
            sender = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
        with sender:
            sender.sendto(b"x", (OUTSIDE["west"], LET_IN))
            assert receiver.recvfrom(10)[1][0] == OUTSIDE["south"]


# --- no way out ----------------------------------------------------------------------------


def test_nothing_leads_out_of_the_bed(bed: Bed, east: Host) -> None:
    with socket.create_server(("0.0.0.0", 0)) as outside:
        port = outside.getsockname()[1]
        for address in ("127.0.0.1", "192.0.2.1", "10.1.0.254"):
            with east.inside():
                sock = socket.socket()
            sock.settimeout(0.5)
            with sock, pytest.raises(OSError, match=r"refused|unreachable|timed out"):
                sock.connect((address, port))
    routes = east.run(["ip", "route"]).stdout
    assert "default" not in routes
    links = {line.split(": ")[1].split("@")[0] for line in east.run(["ip", "-o", "link"]).stdout.splitlines()}
    assert {link for link in links if not link.startswith(("tunl", "sit", "gre", "ip6", "erspan", "ip_vti"))} == {
        "lo",
        "eth0",
    }


def test_two_beds_with_the_same_addresses_know_nothing_of_each_other(bed: Bed, east: Host) -> None:
    with Bed(DATACENTERS, delay_ms=0, loss=0) as other, east.inside():
        with socket.create_server((EAST, 7007)):
            with other.host("east", 2).inside():
                sock = socket.socket()
            with sock, pytest.raises(ConnectionRefusedError):
                sock.connect((EAST, 7007))
        bed.cut()
        assert reaches(other.host("east", 1), WEST)


# --- nothing is left -----------------------------------------------------------------------


def test_what_ran_on_the_hosts_is_gone_with_the_bed(tmp_path: Path) -> None:
    with Bed({"east": 1, "west": 1}) as bed:
        process = bed.host("west", 1).popen(
            ["sh", "-c", "echo here; sleep 1000 & sleep 1000"], log=tmp_path / "log", env={"WORD": "x"}
        )
        wait_for(lambda: (tmp_path / "log").read_text() == "here\n", within_s=PATIENCE_S, what="the process")
        prefix, relay = bed._prefix, bed.relay_pid
        assert len(bed.namespaces) == 4
    assert process.wait(PATIENCE_S) == -signal.SIGKILL
    assert netns.names(prefix) == []
    assert not started(relay)


def test_a_bed_that_fails_is_removed() -> None:
    prefix = ""
    with pytest.raises(ZeroDivisionError), Bed({"east": 1}) as bed:  # noqa: PT012
        prefix = bed._prefix
        assert len(netns.names(prefix)) == 2
        raise ZeroDivisionError
    assert netns.names(prefix) == []


def test_a_bed_that_cannot_be_made_is_removed(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise BedError("no")

    before = netns.names(f"{netns.PREFIX}-{os.getpid()}-")
    monkeypatch.setattr(Bed, "slow", fail)
    with pytest.raises(BedError), Bed({"east": 1}):
        pass
    assert netns.names(f"{netns.PREFIX}-{os.getpid()}-") == before


@pytest.mark.parametrize("with_relay", [False, True], ids=["by-the-relay", "by-the-next-bed"])
def test_a_bed_whose_process_is_killed_is_removed(with_relay: bool) -> None:
    holder = subprocess.Popen([sys.executable, "-c", HOLDER], stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    prefix, relay, process = holder.stdout.readline().split()
    holder.stdout.close()
    assert len(netns.names(prefix)) == 4
    assert started(int(process))
    if with_relay:
        os.kill(int(relay), signal.SIGSTOP)
        os.kill(int(relay), signal.SIGKILL)
    holder.kill()
    holder.wait()
    if with_relay:
        netns.sweep()  # unless another bed, which has just been made, has done it
    wait_for(lambda: not netns.names(prefix), within_s=PATIENCE_S, what="the namespaces to be gone")
    wait_for(lambda: not started(int(process)), within_s=PATIENCE_S, what="its process to be gone")


def test_a_living_bed_is_left_alone_by_the_next_one(bed: Bed, east: Host) -> None:
    assert bed._prefix not in netns.sweep()
    assert reaches(east, WEST)


def test_without_root_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    assert why_not() == ""
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert "needs root" in why_not()
    with pytest.raises(BedError, match="needs root"), Bed(DATACENTERS):
        pass

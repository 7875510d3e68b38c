"""A test bed of hosts: network namespaces joined into datacenters, with a WAN that a test cuts and slows down.

    with Bed({"eu-west": 3, "us-west": 3}, delay_ms=120, loss=0.01) as bed:
        bed.host("eu-west", 1).run(["hitmesh", "replay", ...])
        bed.cut("eu-west", "us-west")
        bed.heal("eu-west", "us-west")

    eu-west                              us-west
    host 1 (10.1.0.1) --+                +-- host 1 (10.2.0.1)
    host 2 (10.1.0.2) --+-- router === relay === router ...
    host 3 (10.1.0.3) --+   .254, TUN    +-- host 3 (10.2.0.3)

Other datacenters may have IPv6 (`networks`, see tests/wan/networks.py). Each host is a namespace, and each datacenter's router another, with the bridge of its hosts and a TUN
device; the relay process (tests/wan/relay.py) is the WAN between those devices. A datacenter's own traffic
never comes there, and nothing leads out: no namespace is joined with the machine's own network. Files are
the machine's: what namespaces share.

`delay_ms` is one way: 120 makes a round trip of 240. Root only. All of it is gone afterwards: also when the
process is killed, by the relay; and if that one is killed too, by the next bed.
"""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import json
import os
import socket
import struct
import subprocess
import sys
from collections.abc import Collection, Mapping
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Final

from tests.wan import netns
from tests.wan.host import Host
from tests.wan.netns import BedError
from tests.wan.networks import Network, Plan

REPOSITORY: Final = Path(__file__).resolve().parents[2]
TUN: Final = Path("/dev/net/tun")
DELAY_MS: Final = 120.0  # one way
LOSS: Final = 0.01
QUEUED: Final = 20_000  # packets in a TUN device: a relay that doesn't get the CPU for a while loses none
RELAY_S: Final = 60.0  # that the relay may take for an answer, on a busy machine
FORWARDING: Final = ("/proc/sys/net/ipv4/ip_forward", "/proc/sys/net/ipv6/conf/all/forwarding")
_TUNSETIFF: Final = 0x400454CA
_IFF_TUN: Final = 0x0001
_IFF_NO_PI: Final = 0x1000  # packets without a header of the device's own

Counts = dict[str, int]
"""Of a link since it was made: packets sent, and of these delivered, lost, cut, overflowed."""


def why_not() -> str:
    """Why this machine can't have a bed; empty where it can."""
    if os.geteuid() != 0:
        return "the bed of hosts needs root: it makes network namespaces"
    try:
        with TUN.open("rb+", buffering=0):
            pass
    except OSError as error:
        return f"the bed of hosts needs TUN devices: {TUN}: {error.strerror}"
    name = f"{netns.new_prefix()}trial"
    try:
        netns.ip(f"netns add {name}")
        try:
            with netns.inside(name):
                pass
        finally:
            netns.remove(name)
    except BedError as error:
        return f"the bed of hosts needs network namespaces: {error}"
    return ""


class Bed:
    """Datacenters of so many hosts each, and the WAN between them. A context manager."""

    def __init__(
        self,
        hosts: Mapping[str, int],
        *,
        delay_ms: float = DELAY_MS,
        loss: float = LOSS,
        seed: int = 2015,
        networks: Mapping[str, Network] | None = None,
        let_in: Collection[int] = (),
    ) -> None:
        """`networks` by datacenter, where they aren't IPv4; of these the routers let only these ports in."""
        self.datacenters = list(hosts)
        self._prefix = netns.new_prefix()
        self._numbers = {dc: number for number, dc in enumerate(hosts, start=1)}
        self._plans = {
            dc: Plan(number, (networks or {}).get(dc, "ipv4"), let_in) for dc, number in self._numbers.items()
        }
        self._hosts = {
            dc: [
                Host(f"{self._prefix}{dc}-{n}", plan.inside(n), wan_address=plan.outside(n), wan_shift=plan.shift(n))
                for n in range(1, hosts[dc] + 1)
            ]
            for dc, plan in self._plans.items()
        }
        self._delay_ms, self._loss, self._seed = delay_ms, loss, seed
        self._cut: set[tuple[str, str]] = set()
        self._relay: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None

    def __enter__(self) -> Bed:
        if reason := why_not():
            raise BedError(reason)
        netns.sweep()
        try:
            self._make()
            self.slow(delay_ms=self._delay_ms, loss=self._loss)
        except BaseException:
            self.remove()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.remove()

    # --- hosts ------------------------------------------------------------------------------

    def host(self, dc: str, number: int) -> Host:
        """Host `number` of a datacenter, counted from 1."""
        return self._hosts[dc][number - 1]

    def hosts(self, dc: str) -> list[Host]:
        """All of a datacenter."""
        return list(self._hosts[dc])

    @property
    def relay_pid(self) -> int:
        """The WAN's process."""
        assert self._relay is not None, "the bed isn't made"
        return self._relay.pid

    @property
    def namespaces(self) -> list[str]:
        """Those of this bed that exist now."""
        return netns.names(self._prefix)

    # --- the WAN ----------------------------------------------------------------------------
    # Each of these: between two datacenters, or between one and all others, or everywhere. When it returns, it is so.

    def cut(self, one: str = "", other: str = "", *, one_way: bool = False) -> None:
        """Let nothing through, in silence; `one_way`: not from `one` to `other`, but back."""
        self._tell(one, other, one_way=one_way, cut=True)

    def heal(self, one: str = "", other: str = "", *, one_way: bool = False) -> None:
        """Let everything through again, as late and with such losses as before."""
        self._tell(one, other, one_way=one_way, cut=False)

    def slow(
        self,
        one: str = "",
        other: str = "",
        *,
        delay_ms: float | None = None,
        loss: float | None = None,
        one_way: bool = False,
    ) -> None:
        """Deliver so much later, and lose this share of all packets; None leaves as it is."""
        told: dict[str, object] = {}
        if delay_ms is not None:
            told["delay_s"] = delay_ms / 1000
        if loss is not None:
            told["loss"] = loss
        self._tell(one, other, one_way=one_way, **told)

    @property
    def links(self) -> list[tuple[str, str]]:
        """The pairs of datacenters."""
        return list(itertools.combinations(self.datacenters, 2))

    def is_cut(self, one: str, other: str) -> bool:
        """Whether nothing goes through, in either direction or in both."""
        return not self._cut.isdisjoint({(one, other), (other, one)})

    def counts(self) -> dict[tuple[str, str], Counts]:
        """What each link has carried, by (from, to)."""
        names = {str(number): dc for dc, number in self._numbers.items()}
        said = self._say({})
        return {(names[link.split()[0]], names[link.split()[1]]): counts for link, counts in said.items()}

    def _tell(self, one: str, other: str, *, one_way: bool, **told: object) -> None:
        pairs = {
            (source, target)
            for source, target in itertools.permutations(self.datacenters, 2)
            if (not one or one == source) and (not other or other == target)
        }
        if not pairs and (one or other):
            raise ValueError(f"no link between {one!r} and {other!r}; there are {', '.join(self.datacenters)}")
        if not one_way:
            pairs |= {(target, source) for source, target in pairs}
        if "cut" in told:
            self._cut = self._cut | pairs if told["cut"] else self._cut - pairs
        links = sorted((self._numbers[source], self._numbers[target]) for source, target in pairs)
        self._say({"links": links, **told})

    def _say(self, told: Mapping[str, object]) -> dict[str, Counts]:
        assert self._control is not None, "the bed isn't made"
        try:
            self._control.send(json.dumps(told).encode())
            said: dict[str, Counts] = json.loads(self._control.recv(65_536) or b"null")
        except OSError as error:
            raise BedError(f"the relay doesn't answer: {error}") from error
        if said is None:
            raise BedError("the relay has ended; its words are above, on stderr")
        return said

    # --- making and removing ----------------------------------------------------------------

    def _make(self) -> None:
        routers = {dc: f"{self._prefix}{dc}-router" for dc in self.datacenters}
        every = [*routers.values(), *(host.namespace for hosts in self._hosts.values() for host in hosts)]
        netns.ip(*(f"netns add {name}" for name in every))
        with ExitStack() as stack:
            devices = {}
            for dc, router in routers.items():
                with netns.inside(router):
                    device = os.open(TUN, os.O_RDWR | os.O_CLOEXEC)
                    stack.callback(os.close, device)
                    fcntl.ioctl(device, _TUNSETIFF, struct.pack("16sH14x", b"wan0", _IFF_TUN | _IFF_NO_PI))
                    for switch in FORWARDING:
                        Path(switch).write_text("1")  # of the thread's namespace
                devices[self._numbers[dc]] = device
            self._start_relay(devices)
        for dc, router in routers.items():
            self._wire(dc, router)

    def _wire(self, dc: str, router: str) -> None:
        plan, hosts = self._plans[dc], self._hosts[dc]
        ports = (
            command
            for number, host in enumerate(hosts, start=1)
            for command in (
                f"link add host{number} type veth peer name eth0 netns {host.namespace}",
                f"link set host{number} master br0 up",
            )
        )
        netns.ip(
            "link set lo up",
            "link add br0 type bridge",
            "link set br0 up",
            f"link set wan0 txqueuelen {QUEUED} up",
            *plan.router_commands([number for other, number in self._numbers.items() if other != dc]),
            *ports,
            namespace=router,
        )
        if rules := plan.rules(len(hosts)):
            netns.nft(rules, namespace=router)
        for number, host in enumerate(hosts, start=1):
            netns.ip("link set lo up", *plan.host_commands(number), namespace=host.namespace)

    def _start_relay(self, devices: Mapping[int, int]) -> None:
        mine, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        mine.settimeout(RELAY_S)
        self._control = mine
        with its:
            files = [f"{number}={device}" for number, device in devices.items()]
            self._relay = subprocess.Popen(
                [sys.executable, "-m", "tests.wan.relay", str(its.fileno()), self._prefix, str(self._seed), *files],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                pass_fds=[its.fileno(), *devices.values()],
                cwd=REPOSITORY,
                start_new_session=True,
            )

    def remove(self) -> None:
        """Kill whatever runs on the hosts, and remove them."""
        if self._control is not None:
            with contextlib.suppress(BedError, OSError):
                self._say({"bye": True})
            self._control.close()
            self._control = None
        netns.remove(self._prefix)
        if self._relay is not None:
            try:
                self._relay.wait(RELAY_S)
            except subprocess.TimeoutExpired:
                self._relay.kill()
                self._relay.wait()
            self._relay = None

"""How a datacenter of the bed is addressed, and what its router does. Pure.

    ipv4         hosts 10.N.0.n, as everywhere by default
    dual         the same; other datacenters reach them by IPv6, fd00:N::n
    ipv6         hosts fd00:N::n, and nothing else
    translated   hosts fd10:N::n, which nobody elsewhere has a way to; the router is fd00:N::1 to the others, sends
                 its hosts' packets under that address (nftables), and forwards `let_in` ports to host n: each is
                 100 n higher at the router. The hundred ports from UNCHANGED + 100 n it forwards as they are

N is the datacenter's number, n the host's. But for "ipv4", the router is a firewall too: of what comes from other
datacenters only what belongs to a connection from here, and what goes to `let_in` ports, comes through.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Final, Literal

Network = Literal["ipv4", "dual", "ipv6", "translated"]
ROUTER: Final = 254  # the router's last number in its datacenter
HIGHER: Final = 100  # for each host, the ports of a translating router
UNCHANGED: Final = 18_000


@dataclass(frozen=True)
class Plan:
    """One datacenter's addresses."""

    number: int
    network: Network = "ipv4"
    let_in: Collection[int] = ()

    def inside(self, host: int) -> str:
        """By which the others of its datacenter reach a host."""
        return self._hosts[0].format(host)

    def outside(self, host: int) -> str:
        """By which other datacenters do; empty where it is the same."""
        return {"dual": f"fd00:{self.number}::{host}", "translated": self._router_outside}.get(self.network, "")

    def shift(self, host: int) -> int:
        """What a port is higher by for other datacenters."""
        return HIGHER * host if self.network == "translated" else 0

    def host_commands(self, host: int) -> Iterator[str]:
        """Of ip(8), on a host."""
        for each in self._hosts:
            yield _address(each, host, "eth0")
        yield "link set eth0 up"
        for each in self._hosts:
            yield f"route add {'10.0.0.0/8' if '.' in each else 'fd00::/16'} via {each.format(ROUTER)}"

    def router_commands(self, others: Collection[int]) -> Iterator[str]:
        """Of ip(8), on the router: its addresses, and the ways to other datacenters."""
        for each in self._hosts:
            yield _address(each, ROUTER, "br0")
        if self.network == "translated":
            yield f"addr add {self._router_outside}/128 dev wan0 nodad"
        for number in others:
            for each in self._hosts:
                yield f"route add {f'10.{number}.0.0/24' if '.' in each else f'fd00:{number}::/64'} dev wan0"

    def rules(self, hosts: int) -> str:
        """Of nft(8), on the router; empty for none."""
        if self.network == "ipv4":
            return ""
        forwarded = [
            f"iifname wan0 ip6 daddr {self._router_outside} tcp dport {port + self.shift(host)} "
            f"dnat to [{self.inside(host)}]:{port}"
            for host in range(1, hosts + 1)
            for port in sorted(self.let_in)
        ]
        forwarded += [
            f"iifname wan0 ip6 daddr {self._router_outside} meta l4proto {{ tcp, udp }} "
            f"th dport {UNCHANGED + self.shift(host)}-{UNCHANGED + self.shift(host) + HIGHER - 1} "
            f"dnat to {self.inside(host)}"
            for host in range(1, hosts + 1)
        ]
        translated = self.network == "translated"
        ports = ", ".join(map(str, sorted(self.let_in)))
        return "\n".join(
            [
                "table ip6 nat {",
                "chain in { type nat hook prerouting priority dstnat;",
                *(forwarded if translated else ()),
                "}",
                "chain out { type nat hook postrouting priority srcnat;",
                "oifname wan0 masquerade" if translated else "",
                "}",
                "}",
                "table inet firewall {",
                "chain forward { type filter hook forward priority filter; policy drop;",
                "iifname br0 accept",
                "ct state established,related accept",
                "meta l4proto ipv6-icmp accept",
                "ct status dnat accept",
                f"iifname wan0 meta nfproto ipv6 meta l4proto {{ tcp, udp }} th dport {{ {ports} }} accept"
                if ports
                else "",
                "}",
                "}",
            ]
        )

    @property
    def _hosts(self) -> tuple[str, ...]:
        """The hosts' addresses, with a place for their numbers; the one inside first."""
        ipv4, ipv6 = f"10.{self.number}.0.{{}}", f"fd00:{self.number}::{{}}"
        return {
            "ipv4": (ipv4,), "dual": (ipv4, ipv6), "ipv6": (ipv6,), "translated": (f"fd10:{self.number}::{{}}",)
        }[self.network]  # fmt: skip

    @property
    def _router_outside(self) -> str:
        return f"fd00:{self.number}::1"


def _address(form: str, host: int, device: str) -> str:
    return f"addr add {form.format(host)}{'/24' if '.' in form else '/64 nodad'} dev {device}"

"""What other datacenters are told in place of an endpoint inside. No sockets."""

from __future__ import annotations

import pytest

from hitmesh.config import Placement
from hitmesh.config.outside import outside

KEY = "/" + "0a" * 32


def placed(wan_address: str = "", wan_shift: int = 0) -> Placement:
    return Placement("nexus", "nexus-1", "a", "10.1.0.11", 8020, wan_address=wan_address, wan_shift=wan_shift)


@pytest.mark.parametrize(
    ("wan_address", "shift", "inside", "told"),
    [
        ("", 0, "tcp://10.1.0.11:8020", "tcp://10.1.0.11:8020"),
        ("203.0.113.7", 0, "tcp://10.1.0.11:8022", "tcp://203.0.113.7:8022"),
        ("203.0.113.7", 1000, "tcp://10.1.0.11:8022", "tcp://203.0.113.7:9022"),
        ("203.0.113.7", -1000, "tcp://[fd00::1]:8022", "tcp://203.0.113.7:7022"),
        ("2001:DB8:0::7", 0, "tcp://10.1.0.11:8020", "tcp://[2001:db8::7]:8020"),
        ("router.example", 1000, "tcp://[fd00::1]:8020", "tcp://router.example:9020"),
        ("203.0.113.7", 1000, f"tcp://10.1.0.11:8020{KEY}", f"tcp://203.0.113.7:9020{KEY}"),
        ("2001:db8::7", 0, f"tcp://[fd00::1]:8020{KEY}", f"tcp://[2001:db8::7]:8020{KEY}"),
        ("203.0.113.7", 1000, "", ""),
        ("203.0.113.7", -1000, "tcp://10.1.0.11:900", ""),  # somebody's who isn't where the file says: no port at all
        ("203.0.113.7", 1000, "tcp://10.1.0.11:65000", ""),
    ],
)
def test_an_endpoint_has_the_other_address_and_port_and_keeps_what_follows(
    wan_address: str, shift: int, inside: str, told: str
) -> None:
    assert outside(placed(wan_address, shift), inside) == told


def test_a_name_is_replaced_by_what_it_was_found_to_be() -> None:
    one = placed("router.example", 1000)
    assert outside(one, "tcp://10.1.0.11:8020", "[2001:db8::7]") == "tcp://[2001:db8::7]:9020"

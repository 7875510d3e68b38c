"""PROXY headers: what they say, however they come in pieces, and that nothing odd passes."""

from __future__ import annotations

from ipaddress import ip_address

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from balancer.accept.proxy_protocol import V1_BYTES, V2_BYTES, Parsed, ProxyHeader, ProxyProtocolError
from balancer.middle import networks
from balancer.middle.networks import Networks
from hitmesh.errors import ConfigError, HitmeshError
from tests.examples import examples

SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
V6 = "2001:db8:0:1::17"
BEHIND = b"GET / HTTP/1.1\r\n"
Place = tuple[str, int]


def encode_v1(source: Place, destination: Place) -> bytes:
    family = "TCP6" if ":" in source[0] else "TCP4"
    return f"PROXY {family} {source[0]} {destination[0]} {source[1]} {destination[1]}\r\n".encode()


def encode_v2(source: Place, destination: Place, tlvs: bytes = b"") -> bytes:
    block = b"".join(ip_address(place[0]).packed for place in (source, destination))
    block += b"".join(place[1].to_bytes(2) for place in (source, destination)) + tlvs
    return SIGNATURE + b"\x21" + (b"\x21" if ":" in source[0] else b"\x11") + len(block).to_bytes(2) + block


def fed(data: bytes, *, piece: int = 1 << 20) -> Parsed | None:
    """What is found, fed in pieces; as of the whole, although the feeding stops with the last byte of the header."""
    header = ProxyHeader()
    for at in range(0, len(data), piece):
        found = header.feed(data[at : at + piece])
        if found is not None:
            behind = data[at + piece :]
            return Parsed(found.source, found.destination, found.consumed, found.rest + behind)
    return None


def outcome(data: bytes, piece: int) -> Parsed | str | None:
    try:
        return fed(data, piece=piece)
    except ProxyProtocolError:
        return "refused"


# Golden bytes: the specification's example (2.1), its longest lines, and its structures (2.2) written out.
GOLDEN = [
    pytest.param(
        b"PROXY TCP4 192.168.0.1 192.168.0.11 56324 443\r\n", ("192.168.0.1", 56324), ("192.168.0.11", 443), id="v1"
    ),
    pytest.param(
        b"PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n",
        ("255.255.255.255", 65535), ("255.255.255.255", 65535), id="v1-longest-ipv4",
    ),
    pytest.param(
        b"PROXY TCP6 ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535\r\n",
        ("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", 65535), ("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", 65535),
        id="v1-longest-ipv6",
    ),
    pytest.param(b"PROXY TCP6 2001:DB8::1 ::1 0 1\r\n", ("2001:db8::1", 0), ("::1", 1), id="v1-ipv6"),
    pytest.param(
        b"PROXY TCP6 ::ffff:192.0.2.1 ::ffff:192.0.2.2 5 6\r\n", ("192.0.2.1", 5), ("192.0.2.2", 6), id="v1-mapped"
    ),
    pytest.param(b"PROXY UNKNOWN\r\n", None, None, id="v1-unknown"),
    pytest.param(
        b"PROXY UNKNOWN ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535\r\n",
        None, None, id="v1-unknown-longest",
    ),
    pytest.param(b"PROXY UNKNOWN what\0 ever\xff\r\n", None, None, id="v1-unknown-and-anything"),
    pytest.param(
        bytes.fromhex("0d0a0d0a000d0a515549540a 21 11 000c c0a80001 c0a8000b dc04 01bb"),
        ("192.168.0.1", 56324), ("192.168.0.11", 443), id="v2-tcp4",
    ),
    pytest.param(
        bytes.fromhex(
            "0d0a0d0a000d0a515549540a 21 21 0024 20010db8000000010000000000000017 20010db8000000000000000000000001 0050 01bb"
        ),
        ("2001:db8:0:1::17", 80), ("2001:db8::1", 443), id="v2-tcp6",
    ),
    pytest.param(
        bytes.fromhex("0d0a0d0a000d0a515549540a 21 11 0013 c0000201 c0000202 0001 0002 04 0004 00000000"),
        ("192.0.2.1", 1), ("192.0.2.2", 2), id="v2-and-a-tlv",
    ),
    pytest.param(bytes.fromhex("0d0a0d0a000d0a515549540a 20 00 0000"), None, None, id="v2-local"),
    pytest.param(
        bytes.fromhex("0d0a0d0a000d0a515549540a 20 11 000c c0a80001 c0a8000b dc04 01bb"), None, None,
        id="v2-local-with-addresses",
    ),
    pytest.param(bytes.fromhex("0d0a0d0a000d0a515549540a 20 ff 0003 010203"), None, None, id="v2-local-odd-family"),
    pytest.param(bytes.fromhex("0d0a0d0a000d0a515549540a 21 00 0000"), None, None, id="v2-unspecified"),
    pytest.param(bytes.fromhex("0d0a0d0a000d0a515549540a 21 00 0003 010203"), None, None, id="v2-unspecified-and-more"),
    pytest.param(
        bytes.fromhex("0d0a0d0a000d0a515549540a 21 12 000c c0a80001 c0a8000b dc04 01bb"), None, None, id="v2-udp4"
    ),
    pytest.param(bytes.fromhex("0d0a0d0a000d0a515549540a 21 31 00d8") + bytes(216), None, None, id="v2-unix"),
]  # fmt: skip


@pytest.mark.parametrize(("header", "source", "destination"), GOLDEN)
def test_golden_bytes(header: bytes, source: Place | None, destination: Place | None) -> None:
    expected = Parsed(source, destination, len(header), BEHIND)
    assert expected.client == (source[0] if source else "")
    for piece in (1, 2, 7, 1000):
        assert fed(header + BEHIND, piece=piece) == expected
    for cut in range(len(header)):
        assert fed(header[:cut]) is None


V1 = b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n"
REFUSED = [
    b"GET / HTTP/1.1\r\n",
    b"\x16\x03\x01\x02\x00\x01",
    b"PROXY\r\n",
    b"PROXY \r\n",
    b"PROXY  TCP4 192.0.2.1 192.0.2.2 1 2\r\n",
    b"proxy TCP4 192.0.2.1 192.0.2.2 1 2\r\n",
    b" PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n",
    b"PROXY tcp4 192.0.2.1 192.0.2.2 1 2\r\n",
    b"PROXY TCP5 192.0.2.1 192.0.2.2 1 2\r\n",
    b"PROXY UDP4 192.0.2.1 192.0.2.2 1 2\r\n",
    b"PROXY UNKNOWNS\r\n",
    b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2 \r\n",
    b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2 3\r\n",
    b"PROXY TCP4 192.0.2.1 192.0.2.2 1\r\n",
    b"PROXY TCP4 192.0.2.1\t192.0.2.2 1 2\r\n",
    b"PROXY TCP4 192.0.2.01 192.0.2.2 1 2\r\n",
    b"PROXY TCP4 192.0.2.256 192.0.2.2 1 2\r\n",
    b"PROXY TCP4 192.0.2 192.0.2.2 1 2\r\n",
    b"PROXY TCP4 2001:db8::1 2001:db8::2 1 2\r\n",
    b"PROXY TCP6 192.0.2.1 192.0.2.2 1 2\r\n",
    b"PROXY TCP6 2001:db8::1%eth0 2001:db8::2 1 2\r\n",
    b"PROXY TCP6 2001:db8::1 2001::db8::2 1 2\r\n",
    b"PROXY TCP6 [2001:db8::1] 2001:db8::2 1 2\r\n",
    b"PROXY TCP4 192.0.2.1 192.0.2.2 01 2\r\n",
    b"PROXY TCP4 192.0.2.1 192.0.2.2 65536 2\r\n",
    b"PROXY TCP4 192.0.2.1 192.0.2.2 -1 2\r\n",
    b"PROXY TCP4 192.0.2.1 192.0.2.2 +1 2\r\n",
    b"PROXY TCP4 192.0.2.1 192.0.2.2 1_0 2\r\n",
    b"PROXY TCP4 192.0.2.1 192.0.2.2 \xb2 2\r\n",
    b"PROXY TCP4 192.0.2.\xb2 192.0.2.2 1 2\r\n",
    V1.replace(b"\r\n", b"\n"),
    V1.replace(b"\r\n", b"\r\r\n"),
    V1.replace(b"\r\n", b"\rX\n\r\n"),
    b"PROXY UNKNOWN\n\r\n",
    b"PROXY UNKNOWN some\nthing\r\n",
    b"PROXY UNKNOWN some\rthing\r\n",
    b"PROXY UNKNOWN " + b"x" * (V1_BYTES - 15) + b"\r\n",
    SIGNATURE + b"\x11\x11\x00\x0c" + bytes(12),  # version 1
    SIGNATURE + b"\x31\x11\x00\x0c" + bytes(12),
    SIGNATURE + b"\x22\x11\x00\x0c" + bytes(12),  # an unknown command
    SIGNATURE + b"\x21\x41\x00\x0c" + bytes(12),  # an unknown family
    SIGNATURE + b"\x21\x13\x00\x0c" + bytes(12),  # an unknown transport
    SIGNATURE + b"\x21\x11\x00\x0b" + bytes(11),  # shorter than its addresses
    SIGNATURE + b"\x21\x21\x00\x23" + bytes(35),
    SIGNATURE + b"\x21\x11" + (V2_BYTES - 15).to_bytes(2) + bytes(V2_BYTES),
    SIGNATURE + b"\x20\x00\xff\xff",
    b"\r\n\r\n\0\r\nQUIT\r" + b"\x21\x11\x00\x0c" + bytes(12),
]


@pytest.mark.parametrize("data", REFUSED)
@pytest.mark.parametrize("piece", [1, 5, 1 << 20])
def test_what_is_odd_is_refused(data: bytes, piece: int) -> None:
    with pytest.raises(ProxyProtocolError):
        fed(data, piece=piece)


def test_the_one_error_is_one_of_ours() -> None:
    assert issubclass(ProxyProtocolError, HitmeshError)


@pytest.mark.parametrize(
    "data", [b"G", b"PROXX", b"PROXY TCP4\n", b"\r\r", SIGNATURE[:-1] + b"\r", SIGNATURE + b"\x12"]
)
def test_a_stranger_is_noticed_at_his_first_odd_byte(data: bytes) -> None:
    header = ProxyHeader()
    for byte in data[:-1]:
        assert header.feed(bytes([byte])) is None
    with pytest.raises(ProxyProtocolError):
        header.feed(data[-1:])


def test_the_longest_headers_pass() -> None:
    longest = b"PROXY UNKNOWN " + b"x" * (V1_BYTES - 16) + b"\r\n"
    assert len(longest) == V1_BYTES
    assert fed(longest) == Parsed(None, None, V1_BYTES, b"")
    full = encode_v2(("192.0.2.1", 1), ("192.0.2.2", 2), bytes(V2_BYTES - 28))
    assert len(full) == V2_BYTES
    found = fed(full + BEHIND)
    assert found is not None
    assert (found.client, found.consumed, found.rest) == ("192.0.2.1", V2_BYTES, BEHIND)


def test_what_is_held_of_an_endless_header_is_bounded() -> None:
    for endless in (b"PROXY UNKNOWN " + b"x" * 100_000, SIGNATURE + b"\x21\x11\x0f\xf0" + bytes(100_000)):
        header = ProxyHeader()
        held = 0
        try:
            for at in range(len(endless)):
                if header.feed(endless[at : at + 1]) is not None:
                    break
                held = len(header._held)
        except ProxyProtocolError:
            pass
        assert held < V2_BYTES


# --- properties -----------------------------------------------------------------------------

V4_PLACES = st.tuples(st.ip_addresses(v=4).map(str), st.integers(0, 65535))
# An address of the IPv4 kind in IPv6 clothes comes out as IPv4; golden bytes have that one.
V6_PLACES = st.tuples(
    st.ip_addresses(v=6).map(str).filter(lambda text: not text.startswith("::ffff:")), st.integers(0, 65535)
)
PAIRS = st.one_of(st.tuples(V4_PLACES, V4_PLACES), st.tuples(V6_PLACES, V6_PLACES))


@given(PAIRS, st.binary(max_size=50), st.integers(1, 30))
def test_what_is_encoded_is_read_back(pair: tuple[Place, Place], behind: bytes, piece: int) -> None:
    for header in (encode_v1(*pair), encode_v2(*pair), encode_v2(*pair, b"\x04\x00\x01x")):
        assert fed(header + behind, piece=piece) == Parsed(*pair, len(header), behind)


HEADERS = [param.values[0] for param in GOLDEN] + REFUSED


@given(st.sampled_from(HEADERS), st.data(), st.integers(1, 20))
@settings(max_examples=examples(400))
def test_no_bytes_raise_anything_else_and_pieces_make_no_difference(
    header: bytes, data: st.DataObject, piece: int
) -> None:
    changed = bytearray(header)
    for _ in range(data.draw(st.integers(0, 3))):
        at = data.draw(st.integers(0, len(changed)))
        changed[at : at + data.draw(st.integers(0, 2))] = data.draw(st.binary(max_size=3))
    whole = outcome(bytes(changed), 1 << 20)
    assert outcome(bytes(changed), piece) == whole
    assert outcome(bytes(changed), 1) == whole


@given(st.binary(max_size=200), st.integers(1, 20))
def test_random_bytes_are_refused_or_waited_for(data: bytes, piece: int) -> None:
    for start in (b"", b"PROXY ", b"PROXY TCP4 ", SIGNATURE, SIGNATURE + b"\x21\x11"):
        assert outcome(start + data, piece) == outcome(start + data, 1 << 20)


# --- networks -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("networks", "address", "inside"),
    [
        (["10.0.0.0/8"], "10.255.0.1", True),
        (["10.0.0.0/8"], "11.0.0.1", False),
        (["10.0.0.0/8"], "::ffff:10.0.0.1", True),
        (["192.0.2.7"], "192.0.2.7", True),
        (["192.0.2.7"], "192.0.2.8", False),
        (["10.0.0.0/8", "192.0.2.0/24"], "192.0.2.200", True),
        (["2001:db8::/32"], "2001:DB8:1::1", True),
        (["2001:db8::/32"], "2001:db9::1", False),
        (["2001:db8::/32"], "10.0.0.1", False),
        (["::ffff:10.0.0.0/104"], "::ffff:10.0.0.1", True),
        (["0.0.0.0/0"], "2001:db8::1", False),
        (["fe80::/10"], "fe80::1%eth0", True),
        ([], "10.0.0.1", False),
        (["10.0.0.0/8"], "unix", False),
        (["10.0.0.0/8"], "", False),
    ],
)
def test_networks_contain_addresses(networks: list[str], address: str, inside: bool) -> None:
    one = Networks(networks)
    assert [one.contains(address) for _ in range(2)] == [inside] * 2


@pytest.mark.parametrize("text", ["lan", "10.0.0.0/33", "10.0.0.1/8", "10.0.0", ""])
def test_what_is_no_network_is_a_mistake_in_the_config(text: str) -> None:
    with pytest.raises(ConfigError, match="network in CIDR"):
        Networks(["10.0.0.0/8", text])


def test_what_is_remembered_of_addresses_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(networks, "_MEMO", 10)
    lan = Networks(["10.0.0.0/28"])
    for number in range(100):
        assert lan.contains(f"10.0.0.{number}") == (number < 16)
        assert len(lan._memo) <= 10


@given(st.lists(st.ip_addresses().map(str), max_size=3), st.ip_addresses())
def test_single_addresses_contain_themselves_alone(listed: list[str], address: object) -> None:
    expected = str(address) in listed or str(getattr(address, "ipv4_mapped", None)) in listed
    assert Networks(listed).contains(str(address)) == expected

"""The chunked coding by itself: what is encoded is decoded again, in whatever pieces."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hitmesh.http.chunks import EXTENSION_BYTES, TRAILER_BYTES, TRAILER_LINES, ChunkDecoder, encode_chunk, encode_last
from hitmesh.http.errors import BadMessage


def decode(data: bytes, piece: int) -> tuple[bytes, bytes, bytes]:
    """The body, its trailers and what is behind it; fed in pieces of one size. Fails if its end doesn't come."""
    decoder = ChunkDecoder()
    body = b""
    for at in range(0, len(data), piece):
        body += decoder.feed(data[at : at + piece])
        if decoder.done:
            return body, decoder.trailers, decoder.rest + data[at + piece :]
    raise AssertionError("its end doesn't come")


def feed_all(pieces: list[bytes]) -> bytes:
    decoder = ChunkDecoder()
    return b"".join(map(decoder.feed, pieces))


@given(
    st.lists(st.binary(min_size=1, max_size=300)),
    st.sampled_from([b"", b"X-T: 1\r\n", b"X-T: 1\r\nX-U: 2\r\n"]),
    st.binary(max_size=20),
    st.integers(1, 40),
)
def test_what_is_encoded_is_decoded_again_in_whatever_pieces(
    chunks: list[bytes], trailers: bytes, behind: bytes, piece: int
) -> None:
    data = b"".join(map(encode_chunk, chunks)) + encode_last(trailers) + behind
    assert decode(data, piece) == (b"".join(chunks), trailers, behind)


@pytest.mark.parametrize("piece", [1, 2, 3, 1000])
@pytest.mark.parametrize(
    ("data", "body"),
    [
        (b"0\r\n\r\n", b""),
        (b"000\r\n\r\n", b""),
        (b"00000A\r\n0123456789\r\n0\r\n\r\n", b"0123456789"),
        (b"9\r\n0\r\n\r\n0\r\n\r\r\n0\r\n\r\n", b"0\r\n\r\n0\r\n\r"),
        (b'1;a;b=c; d = "e;\\"f" \r\nx\r\n0;z\r\n\r\n'.replace(b'" \r', b'"\r'), b"x"),
    ],
)
def test_odd_but_right(data: bytes, body: bytes, piece: int) -> None:
    assert decode(data, piece)[0] == body


@pytest.mark.parametrize("piece", [1, 2, 3, 1000])
@pytest.mark.parametrize(
    "data",
    [
        b"\r\n",
        b" 1\r\nx\r\n",
        b"+1\r\nx\r\n",
        b"0x1\r\nx\r\n",
        b"1 \r\nx\r\n",
        b"1\nx\r\n",
        b"1\rx\r\n",
        b"1_0\r\nx",
        b"g\r\n",
        b"1;\r\nx\r\n",
        b"1;=a\r\nx\r\n",
        b"1;a\nb\r\nx\r\n",
        b'1;a="\r\n"\r\nx\r\n',
        b"1\r\nxy\r\n",
        b"1\r\nx\n",
        b"1\r\nx\r\r\n",
        b"1\r\nx\rX0\r\n\r\n",
        b"10000000000000000\r\n",
        b"ffffffffffffffff\r\n",
        b"00000000000000000\r\n",
        b"0\r\nX: 1\n\r\n",
        b"0\r\n X: 1\r\n\r\n",
        b"0\r\nX : 1\r\n\r\n",
        b"0\r\nX\r\n\r\n",
        b"0\r\nContent-Length: 1\r\n\r\n",
        b"0\r\ntransfer-encoding: chunked\r\n\r\n",
        b"0\r\nHost: a\r\n\r\n",
        b"0\r\nX: 1\r\n 2\r\n\r\n",
    ],
)
def test_what_somebody_may_read_in_another_way_is_refused(data: bytes, piece: int) -> None:
    with pytest.raises(BadMessage):
        decode(data, piece)


def test_extensions_and_trailers_are_bounded_however_they_come() -> None:
    endless = {
        "one extension": [b"1;"] + [b"a" * 100] * 1000,
        "many extensions": [b"1;%b\r\nx\r\n" % (b"a" * 100)] * (EXTENSION_BYTES // 100 + 2),
        "one trailer": [b"0\r\nX: "] + [b"a" * 100] * 1000,
        "many trailers": [b"0\r\n"] + [b"X: 1\r\n"] * (TRAILER_BYTES // 6 + 1),
        "a few lines too many": [b"0\r\n", b"X: 1\r\n" * (TRAILER_LINES + 1), b"\r\n"],
    }
    for name, pieces in endless.items():
        with pytest.raises(BadMessage):
            assert not feed_all(pieces), name

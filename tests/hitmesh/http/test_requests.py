"""A request's id, which differs each time where the lines before it don't. The rest of reading is tried in tests/balancer/wire."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hitmesh.http.errors import BadMessage
from hitmesh.http.fields import Pair
from hitmesh.http.limits import HeadLimits
from hitmesh.http.requests import Request, RequestReader

BEFORE = (b"Host: a.example", b"Via: 1.1 hitmesh")
PAIRS: list[Pair] = [(b"Host", b"a.example"), (b"Via", b"1.1 hitmesh")]
LIMITS = HeadLimits(line_bytes=1024, header_bytes=256, head_bytes=1024)

# What may stand at the end of a head, and may not be taken for an id that stands last.
ENDS = (
    b"X-Request-Id: r-1", b"X-Request-Id: r-2", b"X-Request-Id: another-one", b"X-Request-Id: " + b"x" * 64,
    b"X-Request-Id: " + b"x" * 65, b"X-Request-Id:r-1", b"x-request-id: r-1", b"X-Request-Id: r 1", b"X-Request-Id: ",
    b"X-Request-Id: r-1\r\nX-Request-Id: r-2", b"X-Request-Id: r-1\r\nA: b", b"X-Request-Id: r-1\r\nX-Request-Id:",
    b"X-Request-Id: \xff", b"A: b", b"B: X-Request-Id: r-1", b"X_Request-Id: r-1",
)  # fmt: skip


def head(*lines: bytes, target: bytes = b"/") -> bytes:
    return b"\r\n".join([b"GET %b HTTP/1.1" % target, *lines, b"", b""])


def requests(reader: RequestReader, pieces: Iterable[bytes]) -> list[Request]:
    found = []
    for piece in pieces:
        reader.feed(piece)
        while (request := reader.next()) is not None:
            found.append(request)
    return found


def one(data: bytes) -> Request:
    (request,) = requests(RequestReader(LIMITS), [data])
    return request


def test_the_lines_before_an_id_that_stands_last_are_the_same_fields_whatever_it_is() -> None:
    sent = [head(*BEFORE, b"X-Request-Id: %b" % each) for each in (b"r-1", b"r-22", b"r-333")]
    found = requests(RequestReader(LIMITS), sent)
    assert [each.id for each in found] == [b"r-1", b"r-22", b"r-333"]
    assert [each.pairs for each in found] == [[*PAIRS, (b"X-Request-Id", each.id)] for each in found]
    assert found[0].fields is found[1].fields is found[2].fields
    assert found[0].fields.block == b"\r\nHost: a.example\r\nVia: 1.1 hitmesh\r\n\r\n"


@pytest.mark.parametrize("end", ENDS[4:])
def test_an_id_that_is_long_odd_or_not_the_last_line_is_a_field_as_others_are(end: bytes) -> None:
    request = one(head(*BEFORE, end))
    assert request.fields.block == b"\r\n".join([b"", *BEFORE, end, b"", b""])
    assert request.pairs == request.fields.pairs
    assert request.id == request.fields.id


def test_of_several_ids_the_first_one_counts() -> None:
    assert one(head(*BEFORE, b"X-Request-Id: r-1", b"X-Request-Id: r-2")).id == b"r-1"
    assert one(head(b"X-Request-Id: r-1", *BEFORE)).id == b"r-1"
    assert one(head(*BEFORE)).id == b""


@given(st.lists(st.sampled_from(ENDS), min_size=2, max_size=6), st.integers(1, 200))
def test_whatever_came_before_on_its_connection_a_head_says_the_same(ends: list[bytes], size: int) -> None:
    heads = [head(*BEFORE, each) for each in ends]
    sent = b"".join(heads)
    pieces = [sent[at : at + size] for at in range(0, len(sent), size)]
    found = requests(RequestReader(LIMITS), pieces)
    assert [(each.id, each.pairs) for each in found] == [(each.id, each.pairs) for each in map(one, heads)]


@pytest.mark.parametrize("size", [1, 64])
def test_a_head_with_another_id_is_bounded_as_a_first_one_is(size: int) -> None:
    """The lines were there before, with a shorter id and a shorter request line; together they are too long."""
    reader = RequestReader(LIMITS)
    padding = b"A: " + b"a" * 250
    requests(reader, [head(*BEFORE, padding, b"X-Request-Id: r")])
    rest = len(head(*BEFORE, padding, b"X-Request-Id: ", target=b"")) + size
    whole = head(*BEFORE, padding, b"X-Request-Id: " + b"x" * size, target=b"/" * (LIMITS.head_bytes - rest))
    assert len(whole) == LIMITS.head_bytes
    assert requests(reader, [whole])[0].id == b"x" * size
    with pytest.raises(BadMessage) as refused:
        requests(reader, [whole.replace(b"GET /", b"GET //")])
    assert refused.value.status == 431

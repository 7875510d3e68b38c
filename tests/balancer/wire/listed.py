"""All differences between hitmesh and HAProxy that the corpus finds, as docs/http.md lists them."""

from __future__ import annotations

from typing import Final

from tests.balancer.wire.differences import Row

COMPARED: Final = "2.6"  # HAProxy's version; another may do otherwise
HEADING: Final = (
    "| rule that is broken, or what is unusual | hitmesh | HAProxy 2.6 | decided by |",
    "|---|---|---|---|",
)

# Which of HAProxy's processes do this isn't known beforehand: the same bytes pass one and not the next.
SOMETIMES: Final = frozenset(("an odd field name, or no name",))

ROWS: Final[tuple[Row, ...]] = (
    Row(
        "CONNECT or TRACE",
        ("405",),
        ("forwards it", "400"),
        "RFC 9110, 9.3.6 and 9.3.8: a gateway makes no tunnels, and echoes nobody's cookies",
    ),
    Row(
        "Connection names Host or a framing field, or no field",
        ("400",),
        ("forwards it",),
        "RFC 9110, 7.6.1: no connection option may be a field for all recipients",
    ),
    Row(
        "Content-Length and Transfer-Encoding",
        ("400",),
        ("forwards it",),
        "RFC 9112, 6.3: may be an attempt at smuggling, ought to be an error",
    ),
    Row(
        "HTTP/1.0 without a Host",
        ("forwards it",),
        ("forwards another host",),
        "RFC 9112, 3.2 and 3.3: we forward HTTP/1.1, which needs one; HAProxy forwards HTTP/1.0 without",
    ),
    Row(
        "Transfer-Encoding in HTTP/1.0",
        ("400",),
        ("forwards what the backend refuses",),
        "RFC 9112, 6.1: the framing must be taken for faulty",
    ),
    Row(
        "a URL as the target",
        ("forwards it",),
        ("forwards another target", "400"),
        "RFC 9112, 3.2.2: the URL's host replaces Host; HAProxy forwards the URL, or refuses another Host than the URL's",
    ),
    Row(
        "a bare CR or LF in a field line",
        ("400",),
        ("forwards it", "forwards what the backend refuses"),
        "RFC 9112, 2.2: an LF alone may be taken for a line's end; not every reader does",
    ),
    Row(
        "a bare CR or LF in the request line",
        ("400",),
        ("forwards it", "forwards what the backend refuses"),
        "RFC 9112, 2.2",
    ),
    Row(
        "a chunk extension without a name or a value",
        ("400",),
        ("forwards it", "closes"),
        "RFC 9112, 7.1.1",
    ),
    Row(
        "a chunk longer than its size",
        ("400",),
        ("forwards it", "closes"),
        "RFC 9112, 7.1: HAProxy takes LF for a chunk's end",
    ),
    Row(
        "a control character in a value",
        ("400",),
        ("forwards it", "forwards what the backend refuses"),
        "RFC 9110, 5.5; HAProxy passes them on",
    ),
    Row(
        "a field that no trailer may have",
        ("400",),
        ("forwards what the backend refuses",),
        "RFC 9110, 6.5.1",
    ),
    Row(
        "a folded line",
        ("400",),
        ("forwards it", "forwards what the backend refuses"),
        "RFC 9112, 5.2: rejected or unfolded; HAProxy unfolds",
    ),
    Row(
        "a head of more than 15 KiB",
        ("forwards it",),
        ("400",),
        "RFC 9110, 5.4 leaves limits to us; HAProxy keeps 1 KiB of its buffer of 16 KiB for what it adds",
    ),
    Row(
        "a line that ends in LF alone",
        ("400",),
        ("forwards it", "forwards what the backend refuses", "closes"),
        "RFC 9112, 7.1: chunks and trailers have CRLF",
    ),
    Row(
        "a request line is three words with one space between them",
        ("400",),
        ("forwards it",),
        "RFC 9112, 3: leniency here is a known hole; HAProxy skips further spaces",
    ),
    Row(
        "a target that is neither a path nor an http URL",
        ("400",),
        ("forwards what the backend refuses",),
        "RFC 9112, 3.2",
    ),
    Row(
        "a transfer coding other than chunked",
        ("400", "501"),
        ("400", "422", "forwards what the backend refuses"),
        "RFC 9112, 6.1: 501 for a coding that isn't understood, 400 for what is no list of codings",
    ),
    Row(
        "a user's name in a URL",
        ("400",),
        ("forwards what the backend refuses",),
        "RFC 9110, 4.2.4",
    ),
    Row(
        "a version other than HTTP/1.0 and HTTP/1.1",
        ("505", "400"),
        ("forwards it", "forwards what the backend refuses", "400"),
        "RFC 9110, 15.6.6; RFC 9112, 2.3",
    ),
    Row(
        "an empty Expect",
        ("forwards it",),
        ("forwards what the backend refuses",),
        "RFC 9110, 5.6.1.2: an empty list expects nothing; we drop it, as gunicorn would answer 417",
    ),
    Row(
        "an expectation other than 100-continue",
        ("417",),
        ("forwards what the backend refuses",),
        "RFC 9110, 10.1.1",
    ),
    Row(
        "an invalid Host",
        ("400",),
        ("forwards what the backend refuses",),
        "RFC 9112, 3.2; a list of hosts is none",
    ),
    Row(
        "an odd Content-Length",
        ("400",),
        ("forwards it", "forwards what the backend refuses"),
        "RFC 9110, 8.6: a list of equal lengths may be refused; 19 digits are an overflow in somebody's parser",
    ),
    Row(
        "an odd character in the target",
        ("400",),
        ("forwards it", "forwards what the backend refuses"),
        "RFC 9112, 3.2; RFC 3986, 2",
    ),
    Row(
        "an odd chunk size",
        ("400",),
        ("forwards it",),
        "RFC 9112, 7.1: overflows must be prevented; more than 16 digits are refused",
    ),
    Row(
        "an odd field name, or no name",
        ("400",),
        ("forwards what the backend refuses",),
        "RFC 9112, 5.1; HAProxy looks at a trailer's name in some runs and in others not",
    ),
    Row(
        "an odd method",
        ("400",),
        ("forwards it", "forwards what the backend refuses"),
        "RFC 9110, 9.1; ours has 32 bytes at most, HAProxy takes tabs for spaces",
    ),
    Row(
        "an odd quoted string in a chunk extension",
        ("400",),
        ("forwards it",),
        "RFC 9112, 7.1.1",
    ),
    Row(
        "empty lines instead of a request",
        ("400",),
        ("forwards it",),
        "RFC 9112, 2.2: at least one is to be ignored; we ignore four",
    ),
    Row(
        "no Host",
        ("400",),
        ("forwards what the backend refuses",),
        "RFC 9112, 3.2",
    ),
    Row(
        "several Content-Length or Transfer-Encoding fields",
        ("400",),
        ("forwards it", "422", "forwards what the backend refuses"),
        "RFC 9112, 6.3",
    ),
    Row(
        "several Content-Type fields",
        ("400",),
        ("forwards what the backend refuses",),
        "RFC 9110, 5.3: no list, so no second line",
    ),
    Row(
        "several Host fields",
        ("400",),
        ("forwards it",),
        "RFC 9112, 3.2: 400, equal or not",
    ),
    Row(
        "something else after a chunk size",
        ("400",),
        ("forwards it",),
        "RFC 9112, 7.1.1",
    ),
    Row(
        "the request line is too long",
        ("414",),
        ("forwards it", "400"),
        "RFC 9112, 3: 8,192 bytes here",
    ),
    Row(
        "too many bytes of chunk extensions",
        ("400",),
        ("forwards it",),
        "RFC 9112, 7.1.1: 4,096 bytes in all of one body here",
    ),
    Row(
        "too many header lines, or too long ones",
        ("431",),
        ("forwards it", "400"),
        "RFC 6585, 5",
    ),
    Row(
        "too many trailer lines, or too long ones",
        ("431",),
        ("forwards what the backend refuses", "400"),
        "RFC 6585, 5",
    ),
)

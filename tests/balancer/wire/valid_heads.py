"""Requests that must reach the backend, as unusual as their heads are. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from tests.balancer.wire.case import GET, POST_ABC, Case, Wanted, chunked, request, sized, valid

URL: Final = b"http://b.example:8080/x?y=1"


def valid_heads() -> Iterator[Case]:
    """Connections, targets, fields, methods, limits."""
    yield from _connections()
    yield from _http10()
    yield from _targets()
    yield from _fields()
    yield from _limits()


def _connections() -> Iterator[Case]:
    yield valid("plain", request(), "9112 2.1")
    yield valid("keep-alive", request(b"Connection: keep-alive"), "9112 9.3")
    yield valid("close", request(b"Connection: close"), "9112 9.6", closes=True)
    yield valid("close in capitals", request(b"Connection: CLOSE"), "9110 7.6.1", closes=True)
    yield valid("close in a list", request(b"Connection: x-one ,\t close,, keep-alive"), "9110 7.6.1", closes=True)
    yield valid("close in a second line", request(b"Connection: x-one", b"connection: close"), "9110 5.3", closes=True)
    many = [b"/%d" % each for each in range(40)]
    raw = b"".join(request(start=b"GET %b HTTP/1.1" % each) for each in many)
    yield valid("40 pipelined", raw, "9112 9.3.2", *(Wanted(b"GET", each) for each in many))
    yield valid("pipelined after a sized body", sized(b"abc") + request(), "9112 9.3.2", POST_ABC, GET)
    raw = chunked() + sized(b"abc") + request()
    yield valid("pipelined after a chunked body", raw, "9112 9.3.2", POST_ABC, POST_ABC, GET)
    yield valid("one empty line before", b"\r\n" + request(), "9112 2.2")
    yield valid("four empty lines before", b"\r\n" * 4 + request(), "9112 2.2")
    yield valid("empty lines between", request() + b"\r\n\r\n" + request(), "9112 2.2", GET, GET)
    yield valid("an empty line after a body", sized(b"abc") + b"\r\n" + request(), "9112 2.2", POST_ABC, GET)
    yield valid("valid, then garbage", request() + b"\x16\x03\x01garbage\r\n\r\n", "9112 3", GET, status=400)
    yield valid("valid, then a bad one", request() + request(host=None), "9112 3.2", GET, status=400)
    upgrade = request(b"Connection: upgrade, http2-settings", b"Upgrade: h2c", b"HTTP2-Settings: AAMAAABk")
    yield valid("upgrade to something unknown", upgrade, "9110 7.8")
    yield valid("upgrade without Connection", request(b"Upgrade: websocket"), "9110 7.8")


def _http10() -> Iterator[Case]:
    start = b"GET / HTTP/1.0"
    yield valid("HTTP/1.0", request(start=start), "9112 9.3", closes=True)
    yield valid("HTTP/1.0 keep-alive", request(b"Connection: Keep-Alive", start=start), "9112 9.3")
    raw = request(b"Connection: keep-alive, close", start=start)
    yield valid("HTTP/1.0 close and keep-alive", raw, "9112 9.3", closes=True)
    yield valid("HTTP/1.0 with a body", sized(b"abc", start=b"POST / HTTP/1.0"), "9112 6.3", POST_ABC, closes=True)
    without = Wanted(b"GET", b"/", host=b"")
    raw = request(start=start, host=None)
    yield valid("HTTP/1.0 without Host", raw, "9112 3.2", without, closes=True)
    raw = request(start=b"GET %b HTTP/1.0" % URL, host=None)
    seen = Wanted(b"GET", b"/x?y=1", host=b"b.example:8080")
    yield valid("a URL in HTTP/1.0 without Host", raw, "9112 3.2.2", seen, closes=True)


def _targets() -> Iterator[Case]:
    plain = b"/ // //double /a/../b /. /%00%0d%0a /%zz /? /??a=b?c /;p=1 /@: /~!$&'()*+,;=:@-._".split()
    for target in (*plain, *b"/a[b] /a{b} /a|b^c`d /?q=[{|}]^`".split(), b"/" + b"a" * 8000):
        raw = request(start=b"GET %b HTTP/1.1" % target)
        yield valid(f"target {target[:40].decode()}", raw, "9112 3.2.1", Wanted(b"GET", target))
    absolute = {
        b"http://a.example/x": (b"/x", b"a.example"),
        URL: (b"/x?y=1", b"b.example:8080"),
        b"HTTP://B.example/": (b"/", b"B.example"),
        b"https://b.example/s": (b"/s", b"b.example"),
        b"http://b.example": (b"/", b"b.example"),
        b"http://b.example?q": (b"/?q", b"b.example"),
        b"http://b.example/http://c/": (b"/http://c/", b"b.example"),
        b"http://[::1]:80/v6": (b"/v6", b"[::1]:80"),
    }
    for target, (path, host) in absolute.items():
        raw = request(start=b"GET %b HTTP/1.1" % target)
        wanted = Wanted(b"GET", path, host=host)
        yield valid(f"target {target.decode()}", raw, "9112 3.2.2", wanted)
    yield valid("OPTIONS *", request(start=b"OPTIONS * HTTP/1.1"), "9112 3.2.4", Wanted(b"OPTIONS", b"*"))
    raw = request(start=b"OPTIONS http://b.example HTTP/1.1")
    wanted = Wanted(b"OPTIONS", b"*", host=b"b.example")
    yield valid("OPTIONS of a URL without a path", raw, "9112 3.2.4", wanted)
    hosts = b"A.Example a.example. a.example:80 a.example: 127.0.0.1:8000 [::1] [2001:db8::1]:443 a_b x--y %41".split()
    for host in hosts:
        wanted = Wanted(b"GET", b"/", host=host)
        yield valid(f"Host: {host.decode()}", request(host=b"Host: " + host), "9110 7.2", wanted)
    methods = b"HEAD PUT DELETE PATCH OPTIONS PROPFIND M-SEARCH get X !#$%&'*+-.^_`|~".split()
    for method in (*methods, b"M" * 32):
        raw = request(start=method + b" / HTTP/1.1")
        yield valid(f"method {method.decode()}", raw, "9110 9.1", Wanted(method, b"/"))


def _fields() -> Iterator[Case]:
    yield valid("white space around values", request(b"X-A: \t \tone\t two \t", b"X-B:", b"X-C: \t "), "9112 5.1")
    yield valid("no space after the colon", request(b"X-A:1", host=b"Host:a.example"), "9112 5.1")
    yield valid("white space around the Host", request(host=b"Host: \ta.example \t"), "9112 5.1")
    yield valid("obs-text in values", request(b"X-A: caf\xc3\xa9 \xff\x80"), "9110 5.5")
    yield valid("every character of a value", request(b"X-A: " + bytes(range(0x21, 0x7F))), "9110 5.5")
    yield valid("every character of a name", request(b"!#$%&'*+-.^_`|~09azAZ: 1"), "9110 5.1")
    yield valid("names in every case", request(b"X-UPPER: 1", b"x-lower: 2", host=b"hOsT: a.example"), "9110 5.1")
    yield valid("an underscore in a name", request(b"X_A: 1"), "9110 5.1")
    repeated = request(b"X-A: 1", b"X-A: 2", b"x-a: 1", b"Cookie: a=1", b"Cookie: b=2", b"Accept: a/b", b"Accept: c/d")
    yield valid("the same name several times", repeated, "9110 5.3")
    yield valid("a quoted value", request(b'X-A: "a, \\" b"'), "9110 5.6.4")
    hop = (b"Keep-Alive: timeout=5", b"Proxy-Connection: keep-alive", b"TE: trailers", b"X-One: 1", b"X-Two: 2")
    raw = request(b"Connection: X-One,x-two , TE", *hop)
    yield valid("hop-by-hop fields", raw, "9110 7.6.1")
    yield valid("Connection names what isn't there", request(b"Connection: x-none"), "9110 7.6.1")
    believed = (b"X-Forwarded-For: 1.2.3.4", b"X-Forwarded-Proto: https", b"X-Forwarded-Host: evil")
    also = (b"X-Forwarded-Ssl: on", b"X-Forwarded-Protocol: ssl", b"X-Forwarded-Port: 443", b"X-Real-IP: 1.2.3.4")
    rest = (b"Forwarded: for=1.2.3.4", b"Via: 1.0 fred", b"X-Request-Id: mine")
    for each in (*believed, *also, *rest):
        yield valid(f"{each.decode()} of a stranger", request(each), "7239 8.1")
    yield valid("all of a proxy's fields", request(*believed, *also, *rest), "7239 8.1")
    raw = request(b"Connection: x-forwarded-for, via, forwarded, x-request-id")
    yield valid("Connection names the proxy's own fields", raw, "9110 7.6.1")
    browser = [
        b"User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0",
        b"Accept: text/html,application/xhtml+xml,*/*;q=0.8",
        b"Accept-Language: de,en-US;q=0.7,en;q=0.3",
        b"Accept-Encoding: gzip, deflate, br, zstd",
        b"Referer: https://a.example/",
        b"Cookie: a=b; c=d",
        b"Sec-Fetch-Mode: navigate",
        b"Priority: u=0, i",
    ]
    yield valid("a browser's lines", request(*browser), "9110 5")


def _limits() -> Iterator[Case]:
    target = b"/" + b"a" * (8192 - len(b"GET / HTTP/1.1"))
    raw = request(start=b"GET %b HTTP/1.1" % target)
    yield valid("the longest request line", raw, "9112 3", Wanted(b"GET", target))
    yield valid("the longest header line", request(b"X-A: " + b"a" * (8192 - 5)), "9110 5.4")
    raw = request(*(b"X-%d: %d" % (each, each) for each in range(99)))
    yield valid("the most header lines", raw, "9110 5.4")
    lines = [b"X-A: " + b"a" * 7000, b"X-B: " + b"b" * 7000, b"X-C: "]
    lines[2] += b"c" * (16_384 - len(request(*lines)))
    yield valid("the longest head", request(*lines), "9110 5.4")

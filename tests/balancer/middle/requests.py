"""What the clients and backends of a play say, and how what they got is read."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from balancer.middle.upstream import HEAD_LIMITS
from hitmesh.http.errors import BadMessage
from hitmesh.http.requests import Request, RequestReader
from hitmesh.http.responses import UNTIL_CLOSE, ResponseReader

SMALL_BODY_BYTES: Final = 64  # the limit in force in a play
LARGE: Final = b"x" * 200
MOST_BODY_BYTES: Final = 2000
UPGRADE: Final = b"Connection: upgrade\r\nUpgrade: websocket\r\n"

# By kind: a method, what is in its head, its body as it is sent.
KINDS: Final[dict[str, tuple[bytes, bytes, bytes]]] = {
    "get": (b"GET", b"", b""),
    "delete": (b"DELETE", b"", b""),
    "head": (b"HEAD", b"", b""),
    "old": (b"GET", b"", b""),
    "last": (b"GET", b"Connection: close\r\n", b""),
    "small": (b"POST", b"Content-Length: 10\r\n", b"0123456789"),
    "put": (b"PUT", b"Content-Length: 3\r\n", b"abc"),
    "large": (b"POST", b"Content-Length: %d\r\n" % len(LARGE), LARGE),
    "chunked": (b"POST", b"Transfer-Encoding: chunked\r\n", b"c8\r\n" + LARGE + b"\r\n3\r\nabc\r\n0\r\nX-T: 1\r\n\r\n"),
    "expecting": (b"POST", b"Expect: 100-continue\r\nContent-Length: 10\r\n", b"0123456789"),
    "expecting large": (b"POST", b"Expect: 100-continue\r\nContent-Length: %d\r\n" % len(LARGE), LARGE),
    "endless": (
        b"POST",
        b"Transfer-Encoding: chunked\r\n",
        b"3e8\r\n" + b"y" * 1000 + b"\r\n" + b"fff\r\n" + b"y" * 4095,
    ),
    "bad chunks": (b"POST", b"Transfer-Encoding: chunked\r\n", b"3\r\nabc\r\nzz\r\n"),
    "upgrade": (b"GET", UPGRADE, b""),
    "trace": (b"TRACE", b"", b""),
    "bad": (b"BAD REQUEST", b"", b""),
}


def asking(kind: str, number: int) -> bytes:
    """Request `number`, as a client sends it."""
    method, fields, body = KINDS[kind]
    version = b"1.0" if kind == "old" else b"1.1"
    return b"%b /%d HTTP/%b\r\nHost: a.example\r\n%b\r\n%b" % (method, number, version, fields, body)


ANSWERS: Final = ("sized", "chunked", "until close", "closing", "empty", "interim", "upgrade", "garbage", "surplus")


def answering(kind: str, path: bytes, *, head: bool) -> bytes:
    """An answer to the request for `path`, in which that is the body."""
    sized = b"Content-Length: %d\r\n\r\n" % len(path) + (b"" if head else path)
    if kind == "chunked":
        body = b"" if head else b"%x\r\n%b\r\n0\r\n\r\n" % (len(path), path)
        return b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + body
    return {
        "sized": b"HTTP/1.1 200 OK\r\n" + sized,
        "until close": b"HTTP/1.1 200 OK\r\n\r\n" + (b"" if head else path),
        "closing": b"HTTP/1.1 200 OK\r\nConnection: close\r\n" + sized,
        "empty": b"HTTP/1.1 204 No Content\r\n\r\n",
        "interim": b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\n" + sized,
        "upgrade": b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
        "garbage": b"SSH-2.0-OpenSSH_9.2\r\n",
        "surplus": b"HTTP/1.1 200 OK\r\n" + sized + b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil",
    }[kind]


@dataclass
class Received:
    """What a backend reads on one connection: each request's head; `whole` says whether the last one's body is."""

    reader: RequestReader = field(default_factory=lambda: RequestReader(HEAD_LIMITS))
    size: int = 0
    requests: list[Request] = field(default_factory=list)

    def read(self, out: bytes) -> None:
        """Read on in all that came so far. Raises BadMessage: the balancer must not have sent it."""
        data, self.size = out[self.size :], len(out)
        self.reader.feed(data)
        while True:
            if not self.reader.body_done:
                self.reader.body()
                if not self.reader.body_done:
                    return
            request = self.reader.next()
            if request is None:
                return
            self.requests.append(request)


@dataclass(frozen=True)
class Answered:
    """An answer as a client reads it."""

    status: int
    body: bytes
    whole: bool


def answers(out: bytes, methods: list[bytes], *, closed: bool) -> list[Answered]:
    """The final answers in what a client got, up to an upgrade; `methods` of its requests. Raises BadMessage."""
    found: list[Answered] = []
    reader = ResponseReader(HEAD_LIMITS)
    reader.feed(out)
    while reader.pending:
        response = reader.next(methods[len(found)] if len(found) < len(methods) else b"GET")
        if response is None:
            return [*found, Answered(0, b"", whole=False)]
        if response.status < 200 and response.status != 101:
            continue
        body = reader.first
        if not reader.body_done and reader.pending:
            body += reader.body()
        whole = reader.body_done or (response.length == UNTIL_CLOSE and closed)
        found.append(Answered(response.status, body, whole))
        if not reader.body_done or response.status == 101:
            break
        if not response.keep_alive and reader.pending:
            raise BadMessage("something behind the last answer")
    return found

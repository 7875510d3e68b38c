"""A client's reading of what came back: answers, each well-formed, whole or cut. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

_HEAD: Final = re.compile(
    rb"HTTP/1\.1 ([1-5][0-9]{2}) [ -~]*\r\n((?:[!#$%&'*+\-.^_`|~0-9A-Za-z]+:[ -~\x80-\xff]*\r\n)*)\r\n"
)
_CHUNK: Final = re.compile(rb"([0-9a-f]+)\r\n")


class MalformedAnswer(Exception):
    """Bytes that aren't an HTTP/1.1 response."""


@dataclass(frozen=True, slots=True)
class Answer:
    """One response; `whole` unless its connection ended before its body did.

    `serial` is the backend's number of the request, 0 in the balancer's own answers; `seen` its digest.
    """

    status: int
    fields: tuple[tuple[bytes, bytes], ...]
    body: bytes
    whole: bool
    serial: int = 0
    seen: str = ""

    def value(self, name: bytes) -> bytes | None:
        """The only value of a field, given in small letters."""
        values = [value for each, value in self.fields if each == name]
        assert len(values) < 2, f"{name.decode()} stands {len(values)} times in an answer"
        return values[0] if values else None


def read_answers(data: bytes, *, method: bytes = b"") -> list[Answer]:
    """All final answers in the bytes of a connection, which may have ended.

    `method` is what was asked for, where it is known; else X-Method says it, as the strict backend does.
    """
    answers: list[Answer] = []
    at = 0
    while at < len(data):
        found = _HEAD.match(data, at)
        if found is None:
            raise MalformedAnswer(f"{data[at : at + 200]!r} after {len(answers)} answers")
        at = found.end()
        status = int(found[1])
        if status < 200:
            continue
        lines = [line.partition(b":") for line in found[2].split(b"\r\n")[:-1]]
        fields = tuple((name.lower(), value.strip()) for name, _, value in lines)
        by_name = dict(fields)
        bodiless = status in (204, 304) or b"HEAD" in (method, by_name.get(b"x-method"))
        body, at, whole = (b"", at, True) if bodiless else _body(data, at, by_name)
        serial, seen = int(by_name.get(b"x-serial", b"0")), by_name.get(b"x-seen", b"").decode()
        answers.append(Answer(status, fields, body, whole, serial, seen))
    return answers


def _body(data: bytes, at: int, fields: dict[bytes, bytes]) -> tuple[bytes, int, bool]:
    if fields.get(b"transfer-encoding") == b"chunked":
        return _chunks(data, at)
    if b"content-length" not in fields:
        return data[at:], len(data), True
    end = at + int(fields[b"content-length"])
    return data[at:end], min(end, len(data)), end <= len(data)


def _chunks(data: bytes, at: int) -> tuple[bytes, int, bool]:
    pieces: list[bytes] = []
    while True:
        found = _CHUNK.match(data, at)
        if found is None:
            if b"\r\n" in data[at:]:
                raise MalformedAnswer(f"a chunk size {data[at : at + 40]!r}")
            return b"".join(pieces), len(data), False
        start, size = found.end(), int(found[1], 16)
        if not size:
            end = start if data.startswith(b"\r\n", start) else data.find(b"\r\n\r\n", start) + 2
            return b"".join(pieces), end + 2 if end >= start else len(data), end >= start
        pieces.append(data[start : start + size])
        at = start + size + 2
        if data[start + size : at] != b"\r\n"[: max(0, len(data) - start - size)]:
            raise MalformedAnswer(f"the end of a chunk {data[at - 10 : at + 10]!r}")
        if len(data) < at:
            return b"".join(pieces), len(data), False

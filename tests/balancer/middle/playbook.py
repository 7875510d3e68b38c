"""A play as a text: `>>` is what happens, `<<` what is done then, all of it and in that order.

    >> client GET /a            a request without a body; also `POST /a 5` with the head alone, `says RAW` and `body RAW`
    << open one
    >> one connects             or: refuses, ends, breaks, takes 10, says RAW, answers BODY (200, with a Content-Length)
    << one GET /a
    >> one answers hello
    << client 200 hello
    >> 31                       so many seconds pass
    << close client

In RAW a `|` stands for CRLF. Backends are one, two and so on, their connections one, one.2 and so on, clients client,
client.2 and so on; a client comes with its first line. `room N` says how much an end takes from then on, `gone` that it
is, which the next to send finds out.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tests.balancer.middle.ends import Connection, Play, Visitor


def perform(play: Play, script: str) -> None:
    """Play `script`; an AssertionError shows what was done instead."""
    lines = [line.strip() for line in script.strip().splitlines()]
    performed: list[str] = []
    expected: list[str] = []
    for line in [*lines, ""]:
        if line.startswith("<< "):
            expected.append(line)
            continue
        did = [f"<< {_named(play, each)}" for each in play.did()]
        if did != expected:
            raise AssertionError("\n".join(["after", *performed, "this was done:", *did, "and not:", *expected]))
        performed += [*expected, line]
        expected = []
        if line:
            assert line.startswith(">> "), line
            _happens(play, line[3:])


def _happens(play: Play, what: str) -> None:
    who, _, rest = what.partition(" ")
    if not rest:
        play.pass_time(float(who))
        return
    verb, _, argument = rest.partition(" ")
    end: Any = _client(play, who) if who.startswith("client") else _connection(play, who)
    if verb in ("GET", "HEAD", "POST", "PUT", "DELETE"):
        path, _, size = argument.partition(" ")
        length = f"Content-Length: {size}\r\n" if size else ""
        end.says(f"{verb} {path} HTTP/1.1\r\nHost: a.example\r\n{length}\r\n".encode())
    elif verb in ("says", "body"):
        end.says(_raw(argument))
    elif verb == "answers":
        end.says(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(argument) + argument.encode())
    elif verb == "takes":
        end.takes(int(argument)) if argument else end.takes()
    elif verb == "room":
        end.wire.room = int(argument)
    elif rest == "gone":
        end.wire.is_broken = True
    else:
        getattr(end, verb)()


def _client(play: Play, who: str) -> Visitor:
    number = _number(who)
    while len(play.visitors) < number:
        play.visitor()
    return play.visitors[number - 1]


def _connection(play: Play, who: str) -> Connection:
    name = who.partition(".")[0]
    return _of(play, name)[_number(who) - 1]


def _of(play: Play, name: str) -> Sequence[Connection]:
    return [each for each in play.connections if each.backend.name == name]


def _number(who: str) -> int:
    return int(who.partition(".")[2] or "1")


def _named(play: Play, did: str) -> str:
    """What was done, with the names of the script."""
    who, _, what = did.partition(" ")
    known: dict[str, str] = {each.name: _ordinal("client", index) for index, each in enumerate(play.visitors)}
    for name in {each.backend.name for each in play.connections}:
        known |= {each.name: _ordinal(name, index) for index, each in enumerate(_of(play, name))}
    verb, _, rest = what.partition(" ")
    return f"{known[who]} {rest}" if verb == "send" else f"{verb} {known[who]}"


def _ordinal(name: str, index: int) -> str:
    return f"{name}.{index + 1}" if index else name


def _raw(text: str) -> bytes:
    return text.replace("|", "\r\n").encode("latin-1")

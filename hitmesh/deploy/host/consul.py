"""The Consul of this host, asked for the operator: by requests that the rules let through, on loopback.

Invariants:
- A token is in no argument, file, error or log: it comes on stdin, goes into a header, and is forgotten.
- Nothing is told to whoever else listens at Consul's port: any user could, while Consul is down.
"""

from __future__ import annotations

import http.client
from collections.abc import Sequence
from typing import Final

import msgspec

from hitmesh.deploy.consul_requests import NO_ANSWER, Reply, Request
from hitmesh.deploy.host.machine import Machine, ids
from hitmesh.deploy.host.rules import MAX_CONSUL_REQUESTS, check_consul_request
from hitmesh.deploy.paths import CONSUL_CONF, user_of
from hitmesh.errors import CommandError
from hitmesh.store.consul_agent import HOST

ANSWER_S: Final = 30.0  # a change of the gossip key is heard by every agent before it is answered
MAX_ANSWER_BYTES: Final = 1024 * 1024  # the list of policies takes some 300 bytes each
LISTENS: Final = "0A"  # in /proc/net/tcp


class _Ports(msgspec.Struct, frozen=True):
    http: int


class _Config(msgspec.Struct, frozen=True):
    ports: _Ports


def ask(machine: Machine, requests: Sequence[Request]) -> list[Reply]:
    """Consul's answers, in order, whatever each says. Raises CommandError, before any is sent, or where none comes."""
    if len(requests) > MAX_CONSUL_REQUESTS:
        raise CommandError(f"{len(requests)} requests at once; at most {MAX_CONSUL_REQUESTS}")
    for request in requests:
        check_consul_request(request)
    port = _port(machine)
    return [_ask(machine, port, request) for request in requests]


def _port(machine: Machine) -> int:
    try:
        port = msgspec.json.decode(machine.read(CONSUL_CONF) or b"", type=_Config).ports.http
    except msgspec.MsgspecError as error:
        raise CommandError("no Consul is set up here", hint="`fab bootstrap` does it") from error
    if not 1 <= port <= 65_535:
        raise CommandError(f"{CONSUL_CONF}: {port} is no port")
    return port


def _ask(machine: Machine, port: int, request: Request) -> Reply:
    connection = http.client.HTTPConnection(HOST, port, timeout=ANSWER_S)
    try:
        connection.connect()
        if machine.is_real:  # it is looked at when it has accepted: before, another could come in its place
            _check_listener(port, ids(user_of("consul"))[0])
        body = None if request.body is None else msgspec.json.encode(request.body)
        headers = {"X-Consul-Token": request.token} if request.token else {}
        connection.request(request.method, request.path, body, headers)
        answer = connection.getresponse()
        content = answer.read(MAX_ANSWER_BYTES + 1)
    except (OSError, http.client.HTTPException) as error:
        raise CommandError(
            f"Consul at {HOST}:{port} {NO_ANSWER}: {getattr(error, 'strerror', '') or type(error).__name__}"
        ) from error
    finally:
        connection.close()
    if len(content) > MAX_ANSWER_BYTES:
        raise CommandError(f"Consul answers with more than {MAX_ANSWER_BYTES} bytes")
    return Reply(answer.status, content.decode("utf-8", "replace"))


def _check_listener(port: int, uid: int) -> None:
    """Raise CommandError unless all who listen at this port are the user of Consul."""
    found = listeners(port)
    if not found or found != {uid}:
        raise CommandError(
            f"{HOST}:{port} is listened at by another user than {user_of('consul')}: it was told nothing",
            hint="find out who that is",
        )


def listeners(port: int) -> set[int]:
    """The ids of those users whose sockets listen at a TCP port of this host, whatever the address."""
    found = set()
    for path in ("/proc/net/tcp", "/proc/net/tcp6"):
        try:
            with open(path, encoding="ascii") as file:  # noqa: PTH123 - of the kernel, and not below a root
                rows = [line.split() for line in file.readlines()[1:]]
        except FileNotFoundError:  # a kernel without IPv6
            continue
        found |= {int(row[7]) for row in rows if row[3] == LISTENS and int(row[1].rpartition(":")[2], 16) == port}
    return found

"""Any order of what clients, backends, operators and the clock do: never twice, always answered or closed, nothing leaked."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from hitmesh.config import BalancerLimits, Proxy
from tests.balancer.middle.ends import ROOM, Connection, Play, Visitor
from tests.balancer.middle.requests import (
    ANSWERS,
    KINDS,
    MOST_BODY_BYTES,
    SMALL_BODY_BYTES,
    Received,
    answering,
    answers,
    asking,
)
from tests.examples import examples

LIMITS: Final = BalancerLimits(
    body_bytes=MOST_BODY_BYTES, small_body_bytes=SMALL_BODY_BYTES, tunnel_s=40.0, least_rate=20, tries=2, write_s=4.0
)
OTHER_LIMITS: Final = BalancerLimits(body_bytes=500, small_body_bytes=0, tunnel_s=20.0, first_byte_s=2.0, tries=2)
# What clients ask for in one run: where they all ask for the same few things, more comes of it.
FOCUS: Final = (
    tuple(KINDS),
    ("large", "chunked", "expecting large"),
    ("large",),
    ("upgrade", "get"),
    ("put", "delete", "small"),
)
WHILE_S: Final = (0.0, 0.3, 1.2, 3.5, 11.0, 31.0)  # past some deadlines, and not past others
SETTLED_S: Final = 1000.0  # when everything must be over of which nobody says anything more
pick = st.integers(0, 1000)  # of what there is, by its number
pieces = st.sampled_from((ROOM, ROOM, 150, 150, 40, 7, 1))


class Orders(RuleBasedStateMachine):
    """One worker's clients and backends."""

    @initialize(
        retry=st.sampled_from(("never", "idempotent")),
        sticky=st.sampled_from(("", "page", "client")),
        places=st.integers(1, 2),
        queue=st.integers(0, 2),
        hold=st.integers(0, 2),
        backends=st.sampled_from((1, 2, 0)),
        kinds=st.sampled_from(FOCUS),
    )
    def begin(
        self, retry: Any, sticky: Any, places: int, queue: int, hold: int, backends: int, kinds: tuple[str, ...]
    ) -> None:
        self.kinds = kinds
        route = Proxy(
            service="played", retry=retry, sticky=sticky, backend_connections=places, queue=queue, hold=hold,
            queue_s=5.0, hold_s=7.0,
        )  # fmt: skip
        self.route = route
        self.play = Play(route, backends=backends, limits=LIMITS)
        self.names = iter(f"later-{number}" for number in range(1000))
        self.to_send: dict[Visitor, bytes] = {}
        self.asked: dict[Visitor, list[tuple[str, int]]] = {}
        self.to_say: dict[Connection, bytes] = {}
        self.received: dict[Connection, Received] = {}
        self.answered: dict[Connection, int] = {}
        self.upgraded: set[Connection] = set()  # what is sent on them then are no requests
        self.numbers = 0

    # --- clients ----------------------------------------------------------------------------

    @rule(which=st.lists(pick, min_size=1, max_size=3), room=pieces, sent=pieces)
    def a_client_comes(self, which: list[int], room: int, sent: int) -> None:
        kinds = [_one(self.kinds, each) for each in which]
        visitor = self.play.visitor(room=room)
        self.asked[visitor] = []
        self.to_send[visitor] = b""
        self._ask(visitor, kinds)
        self._send(visitor, sent)

    @precondition(lambda self: self._visitors())
    @rule(which=pick, size=pieces)
    def a_client_asks_again(self, which: int, size: int) -> None:
        visitor = _one(self._visitors(), which)
        self._ask(visitor, [_one(self.kinds, which)])
        self._send(visitor, size)

    @precondition(lambda self: any(self.to_send[each] for each in self._visitors()))
    @rule(which=pick, size=pieces)
    def a_client_sends_more(self, which: int, size: int) -> None:
        self._send(_one([each for each in self._visitors() if self.to_send[each]], which), size)

    @precondition(lambda self: any(each.wire.room < ROOM for each in self._visitors()))
    @rule(which=pick, size=pieces)
    def a_client_takes(self, which: int, size: int) -> None:
        _one([each for each in self._visitors() if each.wire.room < ROOM], which).takes(size)

    @precondition(lambda self: self._visitors())
    @rule(which=pick, how=st.sampled_from(("ends", "breaks", "is found gone")))
    def a_client_leaves(self, which: int, how: str) -> None:
        visitor = _one(self._visitors(), which)
        if how == "breaks":
            visitor.breaks()
        elif how == "is found gone":
            visitor.wire.is_broken = True  # by whoever sends next
        elif visitor.wire.reading:
            visitor.ends()

    # --- backends ---------------------------------------------------------------------------

    @precondition(lambda self: self._connecting())
    @rule(which=pick, room=pieces, how=st.sampled_from(("", "", "", "refused", "broken at once")))
    def a_connection_is_made(self, which: int, room: int, how: str) -> None:
        connection = _one(self._connecting(), which)
        if how == "refused":
            connection.refuses()
            return
        connection.wire.room = room
        connection.wire.is_broken = how == "broken at once"
        connection.connects()

    @precondition(lambda self: self._askable())
    @rule(which=pick, kind=st.sampled_from(ANSWERS), size=pieces)
    def a_backend_answers(self, which: int, kind: str, size: int) -> None:
        self._answer(_one(self._askable(), which), kind, size)

    @precondition(lambda self: self._speaking())
    @rule(which=pick, size=pieces)
    def a_backend_says_more(self, which: int, size: int) -> None:
        connection = _one(self._speaking(), which)
        self.to_say[connection] = self.to_say[connection] or b"through a tunnel"
        self._say(connection, size)

    @precondition(lambda self: self._connecting() or self._askable())
    @rule()
    def all_backends_serve(self) -> None:
        for connection in self._connecting():
            connection.connects()
        self.never_twice()  # which reads what they got
        for connection in self._askable():
            self._answer(connection, "sized", ROOM)

    @precondition(lambda self: any(each.wire.room < ROOM for each in self._connected()))
    @rule(which=pick, size=pieces)
    def a_backend_takes(self, which: int, size: int) -> None:
        _one([each for each in self._connected() if each.wire.room < ROOM], which).takes(size)

    @precondition(lambda self: self._connected())
    @rule(which=pick, how=st.sampled_from(("ends", "breaks", "is found gone", "says something")))
    def a_backend_leaves_a_connection(self, which: int, how: str) -> None:
        connection = _one(self._connected(), which)
        if how == "breaks":
            connection.breaks()
        elif how == "is found gone":
            connection.wire.is_broken = True
        elif not connection.wire.reading:
            pass
        elif how == "ends":
            connection.ends()
        elif connection.upstream in connection.backend.idle:
            connection.says(b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\n\r\n")  # as some servers do

    # --- operators, health and the clock ----------------------------------------------------

    @rule(seconds=st.sampled_from(WHILE_S))
    def time_passes(self, seconds: float) -> None:
        self.play.pass_time(seconds)

    @rule(
        what=st.sampled_from(("joins", "joins", "leaves", "up", "up", "down", "route", "files", "drain", "limits")),
        which=pick,
    )
    def an_operator_changes(self, what: str, which: int) -> None:
        play = self.play
        backends = play.service.backends
        if what == "joins" and len(backends) < 3:
            play.join(next(self.names))
        elif what in ("up", "down") and backends:
            play.use(backends[which % len(backends)], what == "up")
        elif what == "leaves" and len(backends) > 1:
            play.leave(backends[which % len(backends)])
        elif what == "route" and len(play.services) < 3:
            play.change_route(self.route, which % 2)
        elif what == "files":
            play.has_files = not play.has_files
        elif what == "limits":
            play.traffic.limit(LIMITS if which % 2 else OTHER_LIMITS)
        elif what == "drain" and len(play.visitors) > 3:
            play.traffic.drain(play.now)

    @rule(draws=st.sampled_from((0.0, 0.5, 0.99)))
    def chance(self, draws: float) -> None:
        self.play.draws = draws

    # --- what must hold ---------------------------------------------------------------------

    @invariant()
    def never_twice(self) -> None:
        if not hasattr(self, "play"):
            return
        begun: dict[bytes, list[bytes]] = {}
        for connection in self.play.connections:
            received = self.received.setdefault(connection, Received())
            self.to_say.setdefault(connection, b"")
            self.answered.setdefault(connection, 0)
            if connection.upstream.served and connection not in self.upgraded:
                received.read(connection.wire.out)
            for head in connection.wire.heads:
                begun.setdefault(head.split(b" ", 2)[1], []).append(head)
        for path, heads in begun.items():
            may_be_again = self.route.retry == "idempotent" and heads[0].startswith((b"GET", b"DELETE", b"HEAD"))
            assert len(heads) <= (LIMITS.tries if may_be_again else 1), path

    @invariant()
    def counts_are_right(self) -> None:
        if not hasattr(self, "play"):
            return
        exchanges = [client.exchange for each in self.play.visitors if (client := each.client).exchange is not None]
        for service in self.play.services:
            mine = [each for each in exchanges if each.service is service]
            assert service.queued == sum(each.waiting for each in mine) == sum(e.waiting for e in service.waiting)
        for backend in {each.backend for each in self.play.connections} | set(self.play.service.backends):
            with_it = [each for each in exchanges if each.backend is backend]
            assert backend.outstanding == sum(not each.resting for each in with_it), backend.name
            assert set(backend.resting) == {each for each in with_it if each.resting}, backend.name
            assert backend.in_hand == len(with_it)
            assert backend.outstanding <= backend.limit + len(backend.resting) + 2
            opened = {
                each.upstream for each in self.play.connections if each.backend is backend and not each.wire.closed
            }
            assert backend.open == opened
            carried = {each.upstream for each in with_it}
            assert set(backend.idle) == backend.open - carried, "each is idle, or with a request"

    @invariant()
    def nobody_is_waited_for_without_end(self) -> None:
        if not hasattr(self, "play"):
            return
        for visitor in self.play.visitors:
            client, exchange = visitor.client, visitor.client.exchange
            upstream = exchange.upstream if exchange is not None else None
            until = min(client.deadline, upstream.deadline if upstream is not None else math.inf)
            assert visitor.wire.closed or until < math.inf, visitor.name
        for connection in self.play.connections:
            if connection.upstream.carried is connection.upstream.idle:
                assert connection.wire.closed or connection.upstream.deadline < math.inf

    @invariant()
    def every_request_is_answered_once(self) -> None:
        if not hasattr(self, "play"):
            return
        for visitor in self.play.visitors:
            client = visitor.client
            methods = [KINDS[kind][0] for kind, _ in self.asked[visitor]][: client.requests]
            found = answers(visitor.wire.out, methods, closed=visitor.wire.closed)
            finals = [each for each in found if each.status]
            assert len(finals) <= client.requests + 1
            if len(finals) > client.requests:  # of something that never became a request
                assert 400 <= finals[-1].status < 500
            for (kind, number), answer in zip(self.asked[visitor], finals, strict=False):
                if answer.status == 200 and answer.whole and kind != "head":
                    assert answer.body in (b"/%d" % number, b""), "it is the one to this request"
            is_upgraded = any(kind == "upgrade" for kind, _ in self.asked[visitor])  # a tunnel is cut where it is
            if self._ended_well(visitor) and not is_upgraded:
                assert len(finals) == len(found) >= client.requests, visitor.name
                assert all(each.whole for each in found[:-1])
                assert not found or found[-1].whole or found[-1].status == 101

    def teardown(self) -> None:
        if not hasattr(self, "play"):
            return
        play = self.play
        until = play.now + SETTLED_S
        while play.now < until:
            play.pass_time(2.5)
        self.never_twice()
        self.counts_are_right()
        self.every_request_is_answered_once()
        assert not play.traffic.clients
        wires = [each.wire for each in play.visitors] + [each.wire for each in play.connections]
        assert all(wire.closed for wire in wires)
        for service in play.services:
            assert not service.queued
            assert not any(each.waiting for each in service.waiting)
        for backend in {each.backend for each in play.connections}:
            assert (backend.outstanding, len(backend.resting), len(backend.idle), len(backend.open)) == (0, 0, 0, 0)
        gone = {each for each in (c.backend for c in play.connections) if each.gone} | set(play.forgotten)
        assert sorted(map(id, play.forgotten)) == sorted(map(id, gone)), "each was forgotten, once"
        assert play.front.sessions == 0
        assert play.traffic._gathered_bytes == 0
        ended = sum(1 for line in play.lines if b" - - [" in line)
        assert ended <= play.front.requests + len(play.visitors)

    # --- its own ----------------------------------------------------------------------------

    def _ask(self, visitor: Visitor, kinds: list[str]) -> None:
        for kind in kinds:
            self.numbers += 1
            self.asked[visitor].append((kind, self.numbers))
            self.to_send[visitor] += asking(kind, self.numbers)

    def _send(self, visitor: Visitor, size: int) -> None:
        if self.to_send[visitor] and visitor.wire.reading and visitor.alive:
            data, self.to_send[visitor] = self.to_send[visitor][:size], self.to_send[visitor][size:]
            visitor.says(data)

    def _say(self, connection: Connection, size: int) -> None:
        if self.to_say[connection] and connection.wire.reading and connection.alive:
            data, self.to_say[connection] = self.to_say[connection][:size], self.to_say[connection][size:]
            connection.says(data)

    def _visitors(self) -> list[Visitor]:
        return [each for each in self.play.visitors if each.alive]

    def _connecting(self) -> list[Connection]:
        return [each for each in self.play.connections if each.is_connecting and each.alive]

    def _connected(self) -> list[Connection]:
        return [each for each in self.play.connections if not each.is_connecting and each.alive]

    def _listening(self) -> list[Connection]:
        return [each for each in self._connected() if each.wire.reading]

    def _askable(self) -> list[Connection]:
        """With a request that wasn't answered yet."""
        return [
            each
            for each in self._listening()
            if each in self.received and len(self.received[each].requests) > self.answered[each]
        ]

    def _answer(self, connection: Connection, kind: str, size: int) -> None:
        request = self.received[connection].requests[self.answered[connection]]
        if request.fields.upgrade:
            kind = "upgrade"
        if kind == "upgrade":
            self.upgraded.add(connection)
        self.answered[connection] += 1
        self.to_say[connection] += answering(kind, request.target, head=request.method == b"HEAD")
        self._say(connection, ROOM if kind == "surplus" else size)  # later it would be the next one's answer

    def _speaking(self) -> list[Connection]:
        return [each for each in self._listening() if self.to_say.get(each) or each in self.upgraded]

    def _ended_well(self, visitor: Visitor) -> bool:
        """The balancer closed it, and not because something broke or was in its way."""
        wire = visitor.wire
        return wire.closed and not (wire.was_reset or visitor.has_ended or wire.is_broken)


def _one(those: Sequence[Any], which: int) -> Any:
    return those[which % len(those)]


Orders.TestCase.settings = settings(max_examples=examples(300), stateful_step_count=60)
test_orders = Orders.TestCase

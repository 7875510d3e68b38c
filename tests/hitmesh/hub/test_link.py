"""A socket on gevent's hub: what is called when, and that nothing is called afterwards."""

from __future__ import annotations

import array
import contextlib
import fcntl
import socket
import termios
from collections.abc import Callable, Iterator

import gevent
import pytest

from hitmesh.http.wire import READ_BYTES
from hitmesh.hub.link import Link, Stream

LARGE = b"x" * 5_000_000  # more than a pair of sockets takes unread
PATIENCE_S = 30.0
QUIET_S = 0.03  # long enough for the hub to have called whatever it was to call


class Noted(Link):
    """A link that notes what is called; `does` may do more."""

    def __init__(self, stream: Stream, *, first: bool = False, log: list[str] | None = None) -> None:
        super().__init__(stream, first=first)
        self.calls: list[str] = [] if log is None else log
        self.data = bytearray()
        self.does: dict[str, Callable[[], None]] = {}

    def _note(self, call: str) -> None:
        self.calls.append(call)
        if what := self.does.get(call):
            what()

    def received(self, data: bytes) -> None:
        self.data += data
        self._note("received")

    def ended(self) -> None:
        self._note("ended")

    def lost(self, error: OSError) -> None:
        self._note("lost")
        self.close()

    def drained(self) -> None:
        self._note("drained")

    def connected(self) -> None:
        self._note("connected")


Ends = tuple[Noted, socket.socket]


@pytest.fixture
def ends() -> Iterator[Ends]:
    """A link and its peer."""
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    theirs.settimeout(PATIENCE_S)
    link = Noted(ours)
    yield link, theirs
    link.close()
    theirs.close()


def until(condition: Callable[[], object]) -> None:
    """Let the hub run until it is so."""
    gevent.get_hub().loop.update_now()  # it may not have run for long, and the time-out counts from its clock
    with gevent.Timeout(PATIENCE_S):
        while not condition():
            gevent.sleep(0.001)


def read(peer: socket.socket, count: int) -> bytes:
    """So much of what the peer gets, while the hub runs."""
    peer.setblocking(False)
    data = bytearray()

    def more() -> bool:
        try:
            data.extend(peer.recv(1_000_000))
        except BlockingIOError:
            return False
        return len(data) >= count

    until(more)
    return bytes(data)


def waiting(peer: socket.socket) -> int:
    """How many bytes are there to be read."""
    room = array.array("i", [0])
    fcntl.ioctl(peer, termios.FIONREAD, room)
    return room[0]


def test_bytes_are_received_in_their_order_and_then_the_end_once(ends: Ends) -> None:
    link, peer = ends
    link.start_reading()
    for piece in (b"one ", b"two ", b"three"):
        peer.sendall(piece)
        gevent.sleep(0)
    peer.shutdown(socket.SHUT_WR)
    until(lambda: "ended" in link.calls)
    gevent.sleep(QUIET_S)
    assert bytes(link.data) == b"one two three"
    assert link.calls.count("ended") == 1
    assert link.calls[-1] == "ended"
    assert not link.reading


def test_nothing_is_read_before_it_is_wanted_nor_while_it_is_not(ends: Ends) -> None:
    link, peer = ends
    peer.sendall(b"early")
    gevent.sleep(QUIET_S)
    assert link.calls == []
    link.start_reading()
    until(lambda: link.data == b"early")
    link.stop_reading()
    peer.sendall(b" and late")
    gevent.sleep(QUIET_S)
    assert link.data == b"early"
    link.start_reading()
    until(lambda: link.data == b"early and late")


def test_no_more_is_read_at_once_than_is_told(ends: Ends) -> None:
    link, peer = ends
    sizes: list[int] = []
    link.does["received"] = lambda: sizes.append(len(link.data) - sum(sizes))
    peer.sendall(b"x" * 3 * READ_BYTES)
    link.start_reading()
    until(lambda: len(link.data) == 3 * READ_BYTES)
    assert max(sizes) <= READ_BYTES


def test_what_the_peer_does_not_take_is_kept_and_goes_out_in_its_order(ends: Ends) -> None:
    link, peer = ends
    assert link.send(b"first ")
    assert not link.send(LARGE)
    assert link.kept
    gevent.sleep(QUIET_S)
    assert link.calls == []
    data = peer.recv(1_000_000)  # there is room again, which the hub hasn't seen
    assert not link.send(b" last"), "it comes behind what is kept"
    data += read(peer, 6 + len(LARGE) + 5 - len(data))
    assert data == b"first " + LARGE + b" last"
    until(lambda: link.calls == ["drained"])
    assert not link.kept
    assert link.send(b"more")
    assert peer.recv(100) == b"more"


def test_what_is_kept_can_be_dropped(ends: Ends) -> None:
    link, peer = ends
    assert not link.send(LARGE)
    assert not link.send(b"the end")
    link.drop_kept()
    gevent.sleep(QUIET_S)
    count = waiting(peer)
    assert 0 < count < len(LARGE)
    read(peer, count)
    gevent.sleep(QUIET_S)
    assert waiting(peer) == 0
    assert link.calls == []
    assert link.send(b"more"), "nothing is before it"


@pytest.mark.parametrize("when", ["received", "drained", "ended"])
def test_after_close_nothing_is_called(when: str, ends: Ends) -> None:
    link, peer = ends
    link.does[when] = link.close
    link.start_reading()
    if when == "drained":
        link.send(LARGE)
        read(peer, len(LARGE))
    peer.setblocking(True)
    if when == "received":
        peer.sendall(b"x")
    elif when == "ended":
        peer.shutdown(socket.SHUT_WR)
    until(lambda: link.closed)
    calls = list(link.calls)
    assert calls[-1] == when
    assert not link.send(b"x")
    link.start_reading()
    link.close()
    gevent.sleep(QUIET_S)
    assert link.calls == calls
    assert peer.recv(100) == b""


def pair_of_tcp() -> tuple[socket.socket, socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        ours = socket.create_connection(listener.getsockname())
        theirs, _ = listener.accept()
    ours.setblocking(False)
    theirs.settimeout(PATIENCE_S)
    return ours, theirs


def reset(peer: socket.socket) -> None:
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
    peer.close()


def test_a_broken_connection_is_lost_to_who_reads_and_to_who_sends() -> None:
    for kept in (b"", LARGE):
        ours, theirs = pair_of_tcp()
        link = Noted(ours)
        if kept:
            assert not link.send(kept)
        else:
            link.start_reading()
        reset(theirs)
        until(lambda link=link: link.calls)  # type: ignore[misc]
        assert link.calls == ["lost"]
    ours, theirs = pair_of_tcp()
    link = Noted(ours)
    reset(theirs)
    assert not link.send(b"x")
    assert link.calls == ["lost"]


def test_who_cannot_send_may_read_what_was_said_before() -> None:
    class Listening(Noted):
        def cannot_send(self, error: OSError) -> None:
            self._note("cannot send")
            self.drop_kept()

    ours, theirs = pair_of_tcp()
    link = Listening(ours)
    assert not link.send(LARGE)
    theirs.sendall(b"no")
    reset(theirs)
    until(lambda: link.calls)
    assert link.calls == ["cannot send"]
    link.start_reading()
    until(lambda: link.calls[-1] in ("ended", "lost"))
    assert link.data == b"no"
    link.close()


def test_a_stale_connection_takes_no_first_byte_and_nobody_is_told() -> None:
    ours, theirs = pair_of_tcp()
    link = Noted(ours)
    reset(theirs)
    assert not link.first_send(b"x")
    assert link.calls == []
    link.close()
    ours, theirs = pair_of_tcp()
    link = Noted(ours)
    assert link.first_send(LARGE)
    assert link.kept
    assert read(theirs, len(LARGE)) == LARGE
    link.close()
    theirs.close()


def test_a_connection_is_made_and_told_of_later() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        ours = socket.socket()
        ours.setblocking(False)
        link = Noted(ours)
        link.connect(listener.getsockname())
        assert link.calls == []
        until(lambda: link.calls)
        assert link.calls == ["connected"]
        theirs, _ = listener.accept()
    with theirs:
        link.send(b"hello")
        assert theirs.recv(100) == b"hello"
        assert not link.send(LARGE)
        read(theirs, len(LARGE))
        until(lambda: link.calls[-1] == "drained")
    link.close()


@pytest.mark.parametrize("address", [("127.0.0.1", 1), ("255.255.255.255", 1)], ids=["refused", "impossible"])
def test_a_connection_that_cannot_be_made_is_lost_later(address: tuple[str, int]) -> None:
    ours = socket.socket()
    ours.setblocking(False)
    link = Noted(ours)
    link.connect(address)
    assert link.calls == []
    until(lambda: link.calls)
    gevent.sleep(QUIET_S)
    assert link.calls == ["lost"]


def test_who_closes_while_it_connects_hears_nothing() -> None:
    ours = socket.socket()
    ours.setblocking(False)
    link = Noted(ours)
    link.connect(("255.255.255.255", 1))
    link.close()
    gevent.sleep(QUIET_S)
    assert link.calls == []


def test_a_reset_is_seen_as_one_and_a_shut_as_an_end() -> None:
    ours, theirs = pair_of_tcp()
    link = Noted(ours)
    link.send(b"cut")
    link.reset()
    link.close()
    with theirs:
        assert theirs.recv(100) == b"cut"
        with pytest.raises(ConnectionResetError):
            theirs.recv(100)
    ours, theirs = pair_of_tcp()
    link = Noted(ours)
    link.start_reading()
    link.send(b"all")
    link.shut()
    with theirs:
        assert [theirs.recv(100), theirs.recv(100)] == [b"all", b""]
        theirs.sendall(b"still there")
        until(lambda: link.data == b"still there")
    link.close()
    link.shut()


@pytest.mark.parametrize("lost_fails", [False, True])
@pytest.mark.parametrize("when", ["received", "ended", "drained"])
def test_what_a_handler_raises_ends_its_link_and_no_other(when: str, lost_fails: bool, ends: Ends) -> None:
    def fail() -> None:
        raise RuntimeError("on purpose")

    link, peer = ends
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    other = Noted(ours)
    other.start_reading()
    link.does[when] = fail
    if lost_fails:
        link.does["lost"] = fail
    if when == "drained":
        link.send(LARGE)
        read(peer, len(LARGE))
    else:
        link.start_reading()
        peer.sendall(b"x")
        peer.shutdown(socket.SHUT_WR)
    until(lambda: link.closed)
    calls = list(link.calls)
    assert calls[-2:] == [when, "lost"]
    theirs.sendall(b"still there")
    until(lambda: other.data == b"still there")
    gevent.sleep(QUIET_S)
    assert link.calls == calls
    other.close()
    theirs.close()


def test_what_is_found_together_is_first_told_to_who_is_to_be_first() -> None:
    log: list[str] = []

    class Named(Noted):
        name = ""

        def _note(self, call: str) -> None:
            self.calls.append(self.name)

    pairs = [socket.socketpair() for _ in range(6)]
    links = []
    for number, (ours, _) in enumerate(pairs):
        ours.setblocking(False)
        link = Named(ours, first=number % 2 == 1, log=log)
        link.name = "first" if number % 2 else "other"
        link.start_reading()
        links.append(link)
    for _, theirs in pairs:
        theirs.sendall(b"x")  # the hub doesn't run meanwhile
    until(lambda: len(log) == 6)
    assert log == ["first"] * 3 + ["other"] * 3
    for link, (_, theirs) in zip(links, pairs, strict=True):
        link.close()
        theirs.close()


class Decrypted:
    """As a socket with TLS: it has more than its descriptor tells."""

    def __init__(self, carrier: socket.socket, *pieces: bytes) -> None:
        self._carrier = carrier
        self.pieces = list(pieces)

    def recv(self, size: int) -> bytes:
        if not self.pieces:
            data = self._carrier.recv(size)  # raises BlockingIOError
            self.pieces += [data[:3], data[3:]]
        return self.pieces.pop(0)

    def pending(self) -> int:
        return sum(map(len, self.pieces))

    def send(self, data: bytes) -> int:
        return self._carrier.send(data)

    def fileno(self) -> int:
        return self._carrier.fileno()

    def shutdown(self, how: int) -> None:
        self._carrier.shutdown(how)

    def close(self) -> None:
        self._carrier.close()


def test_what_is_decrypted_already_is_received_without_an_event() -> None:
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    link = Noted(Decrypted(ours, b"one ", b"two "))
    link.does["received"] = link.stop_reading
    link.start_reading()
    until(lambda: link.data == b"one ")
    gevent.sleep(QUIET_S)
    assert link.data == b"one ", "it was stopped"
    del link.does["received"]
    link.start_reading()
    until(lambda: link.data == b"one two ")
    theirs.sendall(b"three")
    until(lambda: link.data == b"one two three")
    link.close()
    theirs.close()


def test_what_the_peer_has_not_taken_is_known_whether_we_or_the_kernel_have_it() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        theirs = socket.create_connection(server.getsockname())
        ours, _ = server.accept()
    with theirs:
        for each in (ours, theirs):
            each.setblocking(False)
        link = Noted(ours)
        assert link.untaken() == 0
        assert not link.send(LARGE)
        assert sum(map(len, link.kept or ())) < link.untaken() <= len(LARGE), "what the kernel has counts, too"

        def is_all_taken() -> bool:
            with contextlib.suppress(BlockingIOError):
                theirs.recv(len(LARGE))
            return not link.untaken()

        until(is_all_taken)
        assert link.calls == ["drained"]
        link.close()

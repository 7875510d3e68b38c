"""Sockets and frames: the options that every socket gets, and reading them fairly.

Invariants: a socket is bounded (marks, message size), lets go of the process at close (linger
0), notices a peer that is gone without a word, and comes back to one that returns within half a
heartbeat interval or so.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, TypeVar, overload

import zmq

from hitmesh.errors import DecodeError
from hitmesh.protocol.messages import Message, decode

if TYPE_CHECKING:
    from hitmesh.mesh.network import Network, Socket
    from hitmesh.state.rights import Link

LINGER_MS: Final = 0  # anything else has frozen a whole hub in Context.term
MAX_REQUEST_BYTES: Final = 16 * 1024  # a lookup's key has 1,024 characters at most
MAX_QUEUED: Final = 1000  # messages per peer; what is beyond is dropped, and made good by a snapshot
CONNECT_TIMEOUT_MS: Final = 1000  # a SYN that got lost is tried again sooner than the kernel would
# For ZeroMQ's greetings, a few round trips: of a connection that a cut met before they were over, libzmq alone would
# wait 30 s, and TCP tries again ever more seldom.
HANDSHAKE_MS: Final = 3000
RECONNECT_MS: Final = 50  # the first wait; it doubles up to half a heartbeat
SILENT_INTERVALS: Final = 3  # ZeroMQ's own pings unanswered before it gives up a connection
FAIR_MESSAGES: Final = 64  # read in a row before others on the hub get their turn
# Of one message; ours have three at most. libzmq bounds each frame and not their number, and gives nobody any before it
# has all of them: a few megabytes of empty ones, read in a row, would stop a hub for seconds.
MAX_FRAMES: Final = 8
FAIR_FRAMES: Final = 256  # of a message with too many, thrown away before others get their turn: a millisecond
COMPLAINT_S: Final = 10.0  # between two lines in the log about bad frames

M = TypeVar("M", bound=Message)
N = TypeVar("N", bound=Message)

_log = logging.getLogger("hitmesh.mesh")


def open_socket(network: Network, kind: int, *, heartbeat_s: float, receive_bytes: int) -> Socket:
    """A socket of `kind` with every option set; `receive_bytes` bounds a frame that it takes in."""
    interval_ms = max(1, int(heartbeat_s * 1000))
    # A short heartbeat (tests) is no reason to ping that often, nor to give up a peer that stumbles.
    ping_ms = max(500, interval_ms)
    socket: Socket = network.context.socket(kind)
    socket.setsockopt(zmq.LINGER, LINGER_MS)
    socket.setsockopt(zmq.MAXMSGSIZE, receive_bytes)
    socket.setsockopt(zmq.SNDHWM, MAX_QUEUED)
    socket.setsockopt(zmq.RCVHWM, MAX_QUEUED)
    if kind != zmq.PULL:
        # libzmq 4.3 aborts ("!_io_error") when a ping fails on a connection that it has stopped reading from, its
        # queue being full: a sender that floods and goes ended the process. A PULL's senders ping it.
        socket.setsockopt(zmq.HEARTBEAT_IVL, ping_ms)
    socket.setsockopt(zmq.HEARTBEAT_TIMEOUT, ping_ms * SILENT_INTERVALS)
    socket.setsockopt(zmq.CONNECT_TIMEOUT, CONNECT_TIMEOUT_MS)
    socket.setsockopt(zmq.HANDSHAKE_IVL, HANDSHAKE_MS)
    socket.setsockopt(zmq.RECONNECT_IVL, RECONNECT_MS)
    socket.setsockopt(zmq.RECONNECT_IVL_MAX, max(RECONNECT_MS * 2, interval_ms // 2))
    socket.setsockopt(zmq.TCP_KEEPALIVE, 1)
    return socket


def receive_message(socket: Socket) -> list[bytes]:
    """The next message's frames, waited for. Raises DecodeError of too many: close the socket then, as these are in it."""
    frames, is_whole = _receive_frames(socket)
    if not is_whole:
        raise DecodeError(f"more than {MAX_FRAMES} frames", op="decode")
    return [frame.bytes for frame in frames]


def _receive_frames(socket: Socket) -> tuple[list[zmq.Frame], bool]:
    """The first MAX_FRAMES of the next message, waited for, and whether that are all."""
    frames = [socket.recv(copy=False)]
    while frames[-1].more:
        if len(frames) == MAX_FRAMES:
            return frames, False
        frames.append(socket.recv(copy=False))
    return frames, True


class FrameReader:
    """Reads one green socket for the greenlet that owns it, and counts what isn't a message, or isn't its sender's."""

    def __init__(
        self,
        network: Network,
        socket: Socket,
        endpoint: str,
        *,
        link: Link | None = None,
        clock: Callable[[], float],
        rest: Callable[[], None],
    ) -> None:
        """`link` is what the socket is bound for; None for one that is connected, and knows its other end by its key."""
        self._guard = network.door if link is not None else None
        self._link = link or ""
        self._socket = socket
        self._endpoint = endpoint
        self._clock = clock
        self._rest = rest  # lets the hub run once
        self._in_a_row = 0
        self._complained: float | None = None
        self.bad = 0
        """Frames refused so far."""
        self.key = ""
        """Of the last message's sender; empty where there are no keys."""
        self.frame = b""
        """The last message as it came."""
        self.envelope: list[bytes] = []
        """What came before the last message: a ROUTER's answer needs it."""

    @overload
    def receive(self, kind: type[M], /) -> M | None: ...
    @overload
    def receive(self, kind: type[M], other: type[N], /) -> M | N | None: ...
    @overload
    def receive(self, *kinds: type[M]) -> M | None: ...
    def receive(self, *kinds: type[M]) -> M | None:
        """The next message of these kinds, waited for, that its sender may say; None when the socket was closed."""
        while (read := self._read()) is not None:
            frames, key = read
            if self._guard is not None and self._guard.refusal(self._link, key):
                continue
            try:
                frame = self._only(frames)
                message = decode(frame, *kinds)
            except DecodeError as error:
                self.refuse(error)
                continue
            if self._guard is None or not self._guard.refusal(self._link, key, message):
                self.key, self.frame = key, frame
                return message
        return None

    def read(self) -> list[bytes] | None:
        """The next message's frames as they are, waited for; None when the socket was closed."""
        read = self._read()
        return read[0] if read is not None else None

    def refuse(self, reason: object) -> None:
        """Count a bad message, and say so in the log now and then."""
        self.bad += 1
        now = self._clock()
        if self._complained is None or now - self._complained >= COMPLAINT_S:
            self._complained = now
            _log.warning("%s: bad message (%d so far): %s", self._endpoint, self.bad, reason)

    def _read(self) -> tuple[list[bytes], str] | None:
        while True:
            self._take_turns()
            try:
                frames, is_whole = _receive_frames(self._socket)
                count = len(frames) if is_whole else len(frames) + self._skip()
            except zmq.ZMQError:
                if self._socket.closed:
                    return None
                raise
            if is_whole:
                return [frame.bytes for frame in frames], _key_of(frames[-1]) if self._guard is not None else ""
            self.refuse(f"{count} frames")

    def _skip(self) -> int:
        """Throw the rest of a message away; how many frames that were."""
        count, more = 0, True
        while more:
            count += 1
            if count % FAIR_FRAMES == 0:
                self._rest()
            more = self._socket.recv(copy=False).more
        return count

    def _take_turns(self) -> None:
        # zmq.green doesn't switch while messages are at hand: a flood would stop everybody else.
        self._in_a_row += 1
        if self._in_a_row >= FAIR_MESSAGES:
            self._in_a_row = 0
            self._rest()

    def _only(self, frames: list[bytes]) -> bytes:
        # A DEALER's request to a ROUTER is [identity, request]; a REQ's has an empty frame between them.
        head = 0
        if self._socket.type == zmq.ROUTER:
            head = 2 if frames[1:2] == [b""] else 1
        if len(frames) != head + 1:
            raise DecodeError(f"{len(frames) - head} frames, not 1", op="decode")
        self.envelope = frames[:head]
        return frames[-1]


def _key_of(frame: zmq.Frame) -> str:
    """The key of the connection that a frame came by, as the guard has told it; empty without."""
    try:
        return str(frame.get("User-Id"))
    except zmq.ZMQError:
        return ""

"""Whom a process hears: ZeroMQ asks here about every connection to a bound socket, by its key (ZAP, RFC 27).

Owns the answers, the watch over the list of keys, and the count of everybody who was turned away. What a key may
do is said in hitmesh.state.rights; this only carries it out.

Invariants:
- Nobody is heard before the guard has said so: without an answer libzmq lets no one in (each socket has a domain).
- An unknown peer gets silence: its handshake is left as it is until it ends by itself. If its key is put on the
  list meanwhile, it is let in at once; and it tries again and again.
- A key that is taken off the list isn't heard any more, though its connection be open: each message is looked at.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket as sockets
import time
from collections import Counter, deque
from collections.abc import Callable
from typing import Any, Final, NamedTuple

import gevent
import zmq

from hitmesh.logs import Complaints
from hitmesh.mesh.duty import spawn
from hitmesh.mesh.keyring import SHORT, Keyring
from hitmesh.mesh.monitor import events_of, monitor_of
from hitmesh.mesh.sockets import HANDSHAKE_MS
from hitmesh.protocol.messages import Message
from hitmesh.state import rights
from hitmesh.state.keylist import Peer
from hitmesh.state.rights import (
    BROKEN,
    NO_KEY,
    OTHER_KEY,
    REASONS,
    REVOKED,
    TURNED_AWAY,
    TURNED_AWAY_S,
    UNKNOWN,
    WRONG_NAME,
    WRONG_ROLE,
)

ENDPOINT: Final = "inproc://zeromq.zap.01"  # where libzmq asks (RFC 27)
LOOK_S: Final = 0.3  # between two looks at the list: who is added is heard within a second
REBIND_S: Final = 0.05  # between two tries to have a port again
REBIND_TRIES: Final = 100
MAX_HELD: Final = 1000  # handshakes of unknown peers that wait for their key; one that is forgotten comes again

_MISMATCH: Final = zmq.Event.PROTOCOL_ERROR_ZMTP_MECHANISM_MISMATCH
_CRYPTOGRAPHIC: Final = zmq.Event.PROTOCOL_ERROR_ZMTP_CRYPTOGRAPHIC
WATCHED: Final = zmq.EVENT_ACCEPTED | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL

log = logging.getLogger("hitmesh.mesh")


class _Held(NamedTuple):
    """A question of libzmq about a key that nobody knows yet."""

    envelope: list[bytes]
    link: str
    key: str
    address: str
    at: float


class Guard:
    """Decides for all bound sockets of one context, which must be a green one."""

    def __init__(self, context: Any, keyring: Keyring) -> None:
        self._context = context
        self._keyring = keyring
        self._refused: Counter[tuple[str, str]] = Counter()
        self._refused_at: dict[tuple[str, str], float] = {}  # monotonic, the last time
        self._complaints = Complaints(log)
        self._admitted: set[tuple[str, str]] = set()  # link and key of those who were let in since their last look
        self._listeners: list[Callable[[], None]] = []
        self._closed = False
        self._held: deque[_Held] = deque()
        self._zap = context.socket(zmq.ROUTER)  # answers need not come in the order of the questions
        self._zap.linger = 0
        self._zap.bind(ENDPOINT)
        self._took_plain = keyring.takes_plain  # as it is now: the watch may begin after an end
        spawn("the guard of the sockets", self._answer)
        spawn("the watch over the list of keys", self._watch)

    @property
    def me(self) -> str:
        """Our own public key."""
        return self._keyring.key

    @property
    def waiting(self) -> int:
        """Handshakes of peers whose key isn't known, or not yet."""
        return len(self._held)

    def on_change(self, call: Callable[[], None]) -> None:
        """Have `call` called when there is another list. It must not block."""
        self._listeners.append(call)

    def forget(self, call: Callable[[], None]) -> None:
        """Call it no more."""
        with contextlib.suppress(ValueError):
            self._listeners.remove(call)

    def watch(self, socket: Any, link: str) -> None:
        """Count who fails at this bound socket before it has shown a key that fits."""
        spawn(f"the watch over {link}", self._follow, monitor_of(self._context, socket, WATCHED), link)

    def speaks_only(self, socket: Any, link: str, endpoint: str) -> None:
        """A bound socket that others only listen at: who was taken off the list must be cut off."""

        def look() -> None:
            left = {(where, key) for where, key in self._admitted if where == link and not self._fits(link, key)}
            if left:
                self._admitted -= left
                spawn(f"the cut at {link}", self._bind_again, socket, endpoint)

        self.on_change(look)

    def refusal(self, link: str, key: str, message: Message | None = None) -> str:
        """Why nothing of `key` is heard on `link`, or this message isn't; empty: it is. It is counted here."""
        keys, dc = self._keyring.keys, self._keyring.me.dc
        peer = keys.owner(key)
        if peer is None:
            return self._refuse(link, REVOKED, f"key {key[:SHORT]}")
        if not rights.may_connect(peer, link, dc):
            return self._refuse(link, WRONG_ROLE, str(peer))
        if message is not None and (why := rights.refusal(peer, message, dc, self._owner_for(peer))):
            return self._refuse(link, WRONG_NAME, why)
        return ""

    def load(self) -> dict[str, float]:
        """How many were turned away, and how many seconds ago the last one: by link and reason."""
        now = time.monotonic()
        counts = {f"{TURNED_AWAY}{link}.{reason}": float(count) for (link, reason), count in self._refused.items()}
        return counts | {
            f"{TURNED_AWAY_S}{link}.{reason}": float(int(now - at)) for (link, reason), at in self._refused_at.items()
        }

    def close(self) -> None:
        """Let nobody in any more."""
        self._closed = True
        self._listeners.clear()
        self._zap.close(linger=0)

    # --- greenlets ------------------------------------------------------------------------------

    def _answer(self) -> None:
        while True:
            try:
                asker, _, version, request, domain, address, _, mechanism, *credentials = self._zap.recv_multipart()
                link, key = domain.decode(), credentials[0].hex() if mechanism == b"CURVE" and credentials else ""
                asked = _Held(
                    [asker, b"", version, request], link, key, address.decode("ascii", "replace"), time.monotonic()
                )
                if self._fits(link, key):
                    self._let_in(asked)
                    continue
                if len(self._held) == MAX_HELD:
                    self._turn_away(self._held.popleft())
                self._held.append(asked)
                gevent.sleep(0)  # or a flood of them would stop everybody else
            except zmq.ZMQError:
                if self._closed or self._zap.closed:
                    return
                raise

    def _watch(self) -> None:
        while not self._closed:
            gevent.sleep(LOOK_S)
            took_plain, self._took_plain = self._took_plain, self._keyring.takes_plain
            if self._keyring.look() or took_plain != self._took_plain:
                log.info("the list of keys has changed: %d keys", len(self._keyring.keys))
                for call in tuple(self._listeners):
                    call()
            self._look_again()

    def _follow(self, monitor: Any, link: str) -> None:
        address = ""
        for event in events_of(monitor):
            match event.kind:
                case zmq.EVENT_ACCEPTED:
                    address = _peer_address(event.value)
                case zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL if event.value == _MISMATCH:
                    self._refuse(link, NO_KEY, address)
                case zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL if event.value == _CRYPTOGRAPHIC:
                    self._refuse(link, OTHER_KEY, address)
                case _:
                    self._refuse(link, BROKEN, address)

    def _bind_again(self, socket: Any, endpoint: str) -> None:
        with contextlib.suppress(zmq.ZMQError):
            socket.unbind(endpoint)
        for _ in range(REBIND_TRIES):
            if self._closed or socket.closed:
                return
            try:
                socket.bind(endpoint)
            except zmq.ZMQError:
                gevent.sleep(REBIND_S)  # until the connections to it have ended
            else:
                return
        raise RuntimeError(f"{endpoint} can't be had again")  # which ends the process: nobody hears it

    def _owner_for(self, peer: Peer) -> Callable[[str], Peer | None]:
        """Whose a key is; while a mesh gets its keys whoever speaks may be without one where it is reached."""
        owner = self._keyring.keys.owner
        return (lambda key: owner(key) if key else peer) if self._keyring.takes_plain else owner

    # --- within ---------------------------------------------------------------------------------

    def _fits(self, link: str, key: str) -> bool:
        peer = self._keyring.keys.owner(key)
        return peer is not None and rights.may_connect(peer, link, self._keyring.me.dc)

    def _let_in(self, asked: _Held) -> None:
        self._admitted.add((asked.link, asked.key))
        with contextlib.suppress(zmq.ZMQError):  # whoever asked is gone
            self._zap.send_multipart([*asked.envelope, b"200", b"", asked.key.encode(), b""], zmq.NOBLOCK)

    def _turn_away(self, asked: _Held) -> None:
        peer = self._keyring.keys.owner(asked.key)
        if peer is not None:
            self._refuse(asked.link, WRONG_ROLE, f"{peer} from {asked.address}")
        else:
            reason = UNKNOWN if asked.key else NO_KEY
            self._refuse(asked.link, reason, f"key {asked.key[:SHORT]} from {asked.address}")

    def _look_again(self) -> None:
        """Let those in whose key has come while their handshake was waiting; count those who have waited in vain."""
        now = time.monotonic()
        for _ in range(len(self._held)):
            asked = self._held.popleft()
            if self._fits(asked.link, asked.key):
                self._let_in(asked)
            elif now - asked.at > HANDSHAKE_MS / 1000:
                self._turn_away(asked)
            else:
                self._held.append(asked)

    def _refuse(self, link: str, reason: str, who: str) -> str:
        self._refused[link, reason] += 1
        self._refused_at[link, reason] = time.monotonic()
        words = f"{REASONS[reason]}: {who}"
        self._complaints.warn(f"{link} {reason}", "not heard on %s, with %s", link, words)
        return words


def _peer_address(descriptor: int) -> str:
    """Who is at the other end of a connection that libzmq has taken; empty when it has ended."""
    with contextlib.suppress(OSError), sockets.socket(fileno=os.dup(descriptor)) as one:
        return str(one.getpeername()[0])
    return ""

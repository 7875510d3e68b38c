"""A socket that speaks TLS's server side without waiting: called where the plain one would be.

Owns what is between a connection's plaintext and its bytes on the wire. It must not know HTTP,
certificates, nor when a socket is ready.

Invariants:
- No plaintext that was decrypted is lost: it comes before the error or the end behind it.
- What is kept of either direction is bounded by the constants below.

TLS runs on buffers in memory, not on the descriptor: so many records come with one system call,
and a socket is as good as what gevent makes of it.
"""

from __future__ import annotations

import errno
import ssl
import sys
from contextlib import suppress
from socket import SHUT_RD
from typing import Any, Final, Protocol

RECORD_BYTES: Final = 16384  # plaintext of a TLS record at most (RFC 8446, 5.1): a read never gives more
RECEIVE_BYTES: Final = 65536  # read from the wire at once, and so kept undecrypted at most
SEND_BYTES: Final = 65536  # plaintext encrypted at once, and so kept encrypted until the wire takes it
# What else a peer may let us owe him: the answers to a handshake, to key updates, and to renegotiations
# that he may not have. One who goes on asking, and takes nothing, is cut off.
MAX_ANSWERS_BYTES: Final = 65536


class Carrier(Protocol):
    """What a TlsSocket needs of the socket below it, which doesn't block."""

    def recv(self, size: int, /) -> bytes: ...
    def send(self, data: memoryview, /) -> int: ...
    def fileno(self) -> int: ...
    def shutdown(self, how: int, /) -> None: ...
    def close(self) -> None: ...


class TlsSocket:
    """TLS's server side over `carrier`: to be called as a non-blocking socket is.

    How to call it, as it decrypts ahead of its reader and encrypts ahead of its sender:
    - When `fileno()` is readable, `recv` until BlockingIOError or the end. One who stops before that
      calls `recv` again by himself while `pending()` isn't 0: no readable event will tell him.
    - After BlockingIOError from `send`, the next `send` begins with the same bytes (more may follow):
      some of them may be encrypted already.
    - While `wants_write` is true, `flush` when `fileno()` is writable; `send` does so too. Only the
      handshake's own bytes ever need it, as those of a `send` are offered again by the caller.
    - The handshake is made by the first `recv`s; `send` waits for it. What fails is an OSError
      (ssl.SSLError is one), and the peer has been sent the alert.
    - `shutdown` says that the end is meant (close_notify); `close` alone lets the peer see a cut. The
      peer's end is b"", whether he said so or just closed: HTTP tells by itself what is whole.
    """

    __slots__ = (
        "_broken", "_encrypted", "_ended", "_in", "_kept", "_out", "_owed", "_tls", "carrier", "shaken",
    )  # fmt: skip

    def __init__(self, carrier: Carrier, context: ssl.SSLContext, received: bytes = b"") -> None:
        self.carrier = carrier
        self.shaken = False  # the handshake is done
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._in, self._out, server_side=True)
        self._in.write(received)
        self._kept = b""  # decrypted, not read
        self._owed = memoryview(b"")  # encrypted, not sent; what is in _out comes behind it
        self._encrypted = 0  # bytes that the next send begins with, and that are encrypted already
        self._ended = False
        self._broken: OSError | None = None

    def recv(self, size_bytes: int) -> bytes:
        """Up to `size_bytes` of plaintext; b"" at the end. Raises BlockingIOError when there is nothing now."""
        if self._kept:
            data, self._kept = self._kept[:size_bytes], self._kept[size_bytes:]
            return data
        self._check()
        if not (self._ended or self._in.pending or self._tls.pending()):
            received = self.carrier.recv(RECEIVE_BYTES)
            self._ended = not received
            self._in.write(received)
        if self._ended:
            return b""
        data = self._decrypt(size_bytes) if self.shaken or self._shake() else b""
        if data or self._ended:
            return data
        self._check()
        raise _later()

    def send(self, data: bytes) -> int:
        """How many bytes of `data` the wire has taken. Raises BlockingIOError when it takes none now."""
        if not self.flush() or not self.shaken:
            raise _later()
        sent, self._encrypted = self._encrypted, 0
        assert sent <= len(data), "what send refused wasn't offered again"
        rest = memoryview(data)[sent:]
        while rest:
            taken = self._tls.write(rest[:SEND_BYTES])
            if not self.flush():
                self._encrypted = taken
                if sent:
                    return sent
                raise _later()
            sent += taken
            rest = rest[taken:]
        return sent

    def flush(self) -> bool:
        """Send what is encrypted already; whether all of it is gone."""
        while self._owed or self._out.pending:
            if not self._owed:
                self._owed = memoryview(self._out.read())
            try:
                self._owed = self._owed[self.carrier.send(self._owed) :]
            except BlockingIOError:
                if self._out.pending > MAX_ANSWERS_BYTES:
                    raise ConnectionAbortedError(errno.ECONNABORTED, "the peer asks, and takes no answer") from None
                return False
        return True

    @property
    def wants_write(self) -> bool:
        """Whether something waits for the wire."""
        return bool(self._owed or self._out.pending)

    def pending(self) -> int:
        """Not 0: `recv` may have something without a readable event. 0 for certain after its BlockingIOError."""
        return len(self._kept) + self._in.pending + self._tls.pending() or int(self._ended or self._broken is not None)

    def version(self) -> str | None:
        """TLSv1.2 or TLSv1.3, once the handshake is done."""
        return self._tls.version() if self.shaken else None

    def fileno(self) -> int:
        """The carrier's."""
        return self.carrier.fileno()

    def shutdown(self, how: int) -> None:
        """As a socket's; before the sending side ends, the peer is told so. What he still sends can be read."""
        if how != SHUT_RD and self.shaken and self._broken is None:
            # OpenSSL would drop what it finds in its way.
            self._kept += self._decrypt(RECEIVE_BYTES + RECORD_BYTES)
            with suppress(ssl.SSLError):  # it wants to read the peer's close_notify: recv will
                self._tls.unwrap()
        with suppress(OSError):  # told if it can be
            self.flush()
        self.carrier.shutdown(how)

    def close(self) -> None:
        """Close; what wasn't sent isn't."""
        self.carrier.close()

    def _check(self) -> None:
        if self._broken is not None:
            raise self._broken

    def _shake(self) -> bool:
        hook, sys.unraisablehook = sys.unraisablehook, _hush
        try:
            self._tls.do_handshake()
            self.shaken = True
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLError as error:
            self._fail(error)
        finally:
            sys.unraisablehook = hook
        self.flush()
        return self.shaken

    def _decrypt(self, size_bytes: int) -> bytes:
        """What is here, up to `size_bytes`. What ends or breaks the connection is noted, for after it."""
        pieces: list[bytes] = []
        try:
            while size_bytes > 0 and (self._in.pending or self._tls.pending()):
                piece = self._tls.read(min(size_bytes, RECORD_BYTES))
                if not piece:
                    self._ended = True
                    break
                pieces.append(piece)
                size_bytes -= len(piece)
        except ssl.SSLWantReadError:  # the rest of a record
            pass
        except ssl.SSLZeroReturnError:
            self._ended = True
        except ssl.SSLError as error:
            self._fail(error)
        if self._out.pending and self._broken is None:
            try:
                self.flush()
            except OSError as error:
                self._broken = error  # told after what was decrypted
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def _fail(self, error: ssl.SSLError) -> None:
        self._broken = error
        with suppress(OSError):  # the alert that says why; the peer may be gone
            self.flush()


def _later() -> BlockingIOError:
    return BlockingIOError(errno.EAGAIN, "nothing now")


def _hush(told: Any) -> None:
    """A name in SNI that isn't ASCII makes the ssl module print a traceback, as often as strangers like."""
    if not isinstance(told.exc_value, UnicodeDecodeError):
        sys.__unraisablehook__(told)

"""The client's end of an exchange: what an exchange sees of the connection that its request came on. Pure."""

from __future__ import annotations

from balancer.measures.stats import FrontStats
from balancer.middle.answers import Answer
from balancer.middle.forward import RequestForwarder
from balancer.middle.upstream import Upstream
from hitmesh.http.limits import HeadLimits
from hitmesh.http.requests import Request, RequestReader
from hitmesh.http.wire import Wire


class ClientEnd:
    """One client's connection. `deadline` is when its present state has lasted too long."""

    __slots__ = ("address", "deadline", "forwarder", "gathered", "keep_alive", "reader", "stats", "trusted", "wire")

    def __init__(
        self,
        wire: Wire,
        *,
        address: str,
        trusted: bool,
        reader: RequestReader,
        forwarder: RequestForwarder,
        stats: FrontStats,
        deadline: float,
    ) -> None:
        self.wire = wire
        self.address = address
        self.trusted = trusted  # what it says of those before it is believed
        self.reader = reader
        self.forwarder = forwarder
        self.stats = stats
        self.deadline = deadline
        self.keep_alive = True  # after the answer that is under way
        self.gathered = 0  # bytes of a body that count for the traffic

    # --- an exchange's calls ----------------------------------------------------------------

    def answer(self, answer: Answer, request: Request | None, *, whole: bool, now: float) -> None:
        """An answer of our own, which ends the exchange. `whole`: the request was read to its end, and another may follow."""
        raise NotImplementedError

    def finished(self, now: float) -> None:
        """The answer is on its way, and the exchange over."""
        raise NotImplementedError

    def abort(self) -> None:
        """Break off: the answer can't be finished, and the client must see that."""
        raise NotImplementedError

    def taker_deadline(self, now: float, patience: float = 1.0) -> float:
        """Something is kept for the client: when to look next at how much it took. It has write_s, or a share of that."""
        raise NotImplementedError

    def reroute(self, now: float) -> None:
        """The route that its request waited at is no more."""
        raise NotImplementedError

    def tunnel(self, upstream: Upstream, now: float) -> None:
        """From now on bytes only pass through."""
        raise NotImplementedError

    def gone(self) -> None:
        """Close, and be forgotten."""
        raise NotImplementedError

    def close_after_bug(self, now: float) -> None:
        """What is done for it raised: drop the connection, and what hangs on it."""
        raise NotImplementedError

    # --- the traffic's calls ----------------------------------------------------------------

    def limit(self, head_limits: HeadLimits, field_bytes: int) -> None:
        """These count from the next head on."""
        raise NotImplementedError

    def drain(self, quiet_s: float, now: float) -> None:
        """The worker is to end: a connection that stays idle for `quiet_s` is closed; a head that has begun has its time."""
        raise NotImplementedError

    def lost(self, error: OSError, now: float) -> None:
        """The connection broke, or has to end."""
        raise NotImplementedError

    def expire(self, now: float) -> None:
        """The deadline has passed."""
        raise NotImplementedError

"""Questions to the Nexuses: snapshot, service, owner, forget; and to recorders. Plain or under gevent.

A Nexus that hasn't answered within the time-out (killed, stopped, cut off) is passed over, and so is an answer
that comes later.
"""

from __future__ import annotations

import itertools
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from types import TracebackType
from typing import Any, Final, TypeVar, cast

import zmq

from hitmesh.config import Config, nexus_endpoints
from hitmesh.errors import DecodeError, MeshError
from hitmesh.mesh.connecting import connect
from hitmesh.mesh.keyring import Keyring
from hitmesh.mesh.network import Context, Network, Socket, nexus_keys, operator_keyring
from hitmesh.mesh.resolving import resolve
from hitmesh.mesh.sockets import open_socket, receive_message
from hitmesh.protocol.messages import (
    MAX_FRAME_BYTES,
    Answer,
    Control,
    Lookup,
    Message,
    Recorded,
    Seen,
    decode,
    encode,
    make,
)

TIMEOUT_S: Final = 0.5  # before the next Nexus is tried
MAX_UNANSWERED: Final = 3  # questions in a row, before a connection isn't believed any more
MIN_TRIES: Final = 3  # as in the zguide's Lazy Pirate; each Nexus is tried once at least
LINK_INTERVAL_S: Final = 1.0  # between its pings

A = TypeVar("A", Answer, Recorded)

_requests = itertools.count(1)


def ask(network: Network, endpoint: str, what: str, key: str, timeout_s: float, *, control: bool = False) -> Answer:
    """One question to one Nexus. Raises MeshError when it doesn't answer in time, or refuses."""
    line = Line(network, endpoint)
    try:
        return line.ask(what, key, timeout_s, control=control)
    finally:
        line.close()


class Line:
    """A connection to one Nexus, for questions, one at a time: kept between them, as to make it takes several round trips.

    `keys` tells which ones the Nexus may have, where its endpoint says none: of several the next is tried when one
    doesn't lead to it.
    """

    def __init__(self, network: Network, endpoint: str, keys: Callable[[str], Sequence[str]] = lambda _: ()) -> None:
        self.endpoint = endpoint
        self._network = network
        self._keys = keys
        self._tried = 0
        self._unanswered = 0
        self._place: tuple[str, Sequence[str]] = "", ()  # where the socket is connected, and under which key
        self._socket: Socket | None = None

    def ask(self, what: str, key: str, timeout_s: float, *, control: bool = False) -> Answer:
        """One try. Raises MeshError when no answer comes in time, or the Nexus refuses."""
        answer = self.put(
            what, lambda number: make(Control if control else Lookup, number, what, key), Answer, timeout_s
        )
        if answer.error:
            raise Refusal(answer.error, endpoint=self.endpoint)
        return answer

    def put(self, what: str, question: Callable[[int], Message], kind: type[A], timeout_s: float) -> A:
        """One try of a question, which is made with the number that its answer, of `kind`, must have. Raises MeshError."""
        number = next(_requests)
        message = question(number)
        deadline = time.monotonic() + timeout_s
        try:
            socket = self._connected()
            answer = None
            if _in_time(socket, zmq.POLLOUT, timeout_s, partial(socket.send, encode(message))) is None:
                self._tried += 1  # it isn't connected
            else:
                answer = self._answer(socket, kind, number, deadline)
        except (zmq.ZMQError, DecodeError) as error:
            self.close()
            raise MeshError(str(error), op=what, endpoint=self.endpoint) from error
        if answer is None:
            raise MeshError(f"no answer within {timeout_s:g} s", op=what, endpoint=self.endpoint)
        return answer

    def close(self) -> None:
        """Give the connection up; the next question makes another one."""
        if self._socket is not None:
            self._socket.close(linger=0)
            self._socket = None

    def _connected(self) -> Socket:
        keys = self._network.ways(self._keys(self.endpoint))
        place = resolve(self.endpoint), keys[self._tried % len(keys) :][:1] if keys else ()
        if self._place != place or self._unanswered >= MAX_UNANSWERED:
            self.close()
        if self._socket is None:
            self._place, self._unanswered = place, 0
            self._socket = open_socket(
                self._network, zmq.DEALER, heartbeat_s=LINK_INTERVAL_S, receive_bytes=MAX_FRAME_BYTES
            )
            self._socket.setsockopt(zmq.IMMEDIATE, 1)  # questions don't pile up for one that is away
            connect(self._network, self._socket, *place)
        return self._socket

    def _answer(self, socket: Socket, kind: type[A], number: int, deadline: float) -> A | None:
        self._unanswered += 1
        while frames := _in_time(socket, zmq.POLLIN, deadline - time.monotonic(), partial(receive_message, socket)):
            answer = decode(frames[-1], kind)
            if answer.request == number:  # else it is a late one
                self._unanswered = 0
                return answer
        return None


class Refusal(MeshError):
    """A Nexus answered, and said no."""

    retryable = False


class Lookups:
    """Asks the Nexuses at `endpoints` (their lookup sockets), one after the other until one answers."""

    def __init__(
        self,
        endpoints: Sequence[str],
        timeout_s: float = TIMEOUT_S,
        *,
        keyring: Keyring | None = None,
        keys: Callable[[str], Sequence[str]] = lambda _: (),
    ) -> None:
        """`keys` tells which keys may be at an endpoint that says none."""
        self._endpoints = tuple(endpoints)
        self._keyring, self._keys = keyring, keys
        self._timeout_s = timeout_s
        self._first = 0  # the Nexus that answered last
        self._network: Network | None = None
        self._lines: dict[str, Line] = {}

    @classmethod
    def of(cls, config: Config, timeout_s: float = TIMEOUT_S) -> Lookups:
        """Those of a datacenter's Nexuses, asked by an operator. Raises ConfigError when there is no key for one."""
        keyring = operator_keyring(config)
        endpoints = [nexus_endpoints(one).lookups for one in config.instances("nexus")]
        return cls(endpoints, timeout_s, keyring=keyring, keys=nexus_keys(keyring, config))

    def __enter__(self) -> Lookups:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def snapshot(self) -> Answer:
        """Everybody that a Nexus knows, the dead of the last minutes included. Raises MeshError."""
        return self._ask("snapshot", "")

    def service(self, role: str) -> tuple[Seen, ...]:
        """The living instances of a role. Raises MeshError."""
        return self._ask("service", role).seen

    def owner(self, partition: int) -> Seen | None:
        """The living processor that claims a partition. Raises MeshError."""
        return next(iter(self._ask("owner", str(partition)).seen), None)

    def forget(self, name: str) -> None:
        """Have every Nexus forget the dead instances called `name`. Raises MeshError when none did."""
        done = False
        refusals: list[MeshError] = []
        for endpoint in self._endpoints:
            try:
                self._line(endpoint).ask("forget", name, self._timeout_s, control=True)
                done = True
            except MeshError as error:
                refusals.append(error)
        if not done:
            raise next((one for one in refusals if isinstance(one, Refusal)), None) or self._nobody("forget")

    def close(self) -> None:
        """Give up the ZeroMQ context; it comes back when needed."""
        for line in self._lines.values():
            line.close()
        self._lines.clear()
        if self._network is not None:
            self._network.close()
            self._network = None

    def _ask(self, what: str, key: str) -> Answer:
        cold: Answer | None = None
        for index in self._order():
            endpoint = self._endpoints[index]
            try:
                answer = self._line(endpoint).ask(what, key, self._timeout_s)
            except Refusal:
                raise
            except MeshError:
                continue
            if answer.warm:
                self._first = index
                return answer
            cold = cold or answer  # it has just started; another one may know more
        if cold is None:
            raise self._nobody(what)
        return cold

    def _order(self) -> Iterator[int]:
        count = len(self._endpoints)
        tries = max(MIN_TRIES, count)
        return (index % count for index in range(self._first, self._first + tries)) if count else iter(())

    def _nobody(self, what: str) -> MeshError:
        return MeshError("no Nexus answers", op=what, endpoint=", ".join(self._endpoints), hint="is the mesh running?")

    def _line(self, endpoint: str) -> Line:
        if self._network is None:
            self._network = Network(make_context(), self._keyring)
        if endpoint not in self._lines:
            self._lines[endpoint] = Line(self._network, endpoint, self._keys)
        return self._lines[endpoint]


def make_context() -> Context:
    """A ZeroMQ context whose waits suit this process."""
    # Where gevent has patched the process, a plain wait would stop its hub. Elsewhere gevent
    # isn't even imported: a command starts twice as fast without.
    monkey = sys.modules.get("gevent.monkey")
    if monkey is not None and monkey.is_module_patched("socket"):
        from zmq import green

        return cast("Context", green.Context())
    return zmq.Context()


def _in_time(socket: Socket, event: int, within_s: float, call: Callable[[], Any]) -> Any:
    """What `call` of this socket returns, or True for nothing; None when `event` doesn't come in time."""
    if not type(socket).__module__.startswith("zmq.green"):
        return (call() or True) if socket.poll(max(0, int(within_s * 1000)), event) else None
    import gevent

    # A green socket's own poll would turn in circles: its descriptor can always be written.
    with gevent.Timeout(max(0.0, within_s), False):  # type: ignore[arg-type]
        return call() or True
    return None

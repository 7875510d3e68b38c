"""Questions to the Nexuses: snapshot, service, owner, forget. Plain or under gevent.

A try has a socket of its own, which is closed with it: an answer that comes late finds nobody.
A Nexus that hasn't answered within the time-out (killed, stopped, cut off) is passed over.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable, Iterator, Sequence
from types import TracebackType
from typing import Final, cast

import zmq

from hitmesh.config import Config, nexus_endpoints
from hitmesh.errors import DecodeError, MeshError
from hitmesh.mesh.connecting import connect, resolve
from hitmesh.mesh.keyring import Keyring
from hitmesh.mesh.network import Context, Network, Socket, nexus_keys, operator_keyring
from hitmesh.mesh.sockets import open_socket
from hitmesh.protocol.messages import (
    MAX_FRAME_BYTES,
    Answer,
    Control,
    Lookup,
    Message,
    Seen,
    decode,
    encode,
    make,
)

TIMEOUT_S: Final = 0.5  # before the next Nexus is tried
MIN_TRIES: Final = 3  # as in the zguide's Lazy Pirate; each Nexus is tried once at least
LINK_INTERVAL_S: Final = 1.0  # of a socket that lives for one try: its pings don't matter

_requests = itertools.count(1)


def ask(
    network: Network,
    endpoint: str,
    what: str,
    key: str,
    timeout_s: float,
    *,
    control: bool = False,
    keys: Sequence[str] = (),
) -> Answer:
    """One try with one Nexus; one for each of the `keys` that it may have, where its endpoint says none.

    Raises MeshError when it doesn't answer in time, or refuses.
    """
    for one in keys[:-1]:
        try:
            return _ask(network, endpoint, what, key, timeout_s, control=control, keys=(one,))
        except Refusal:
            raise
        except MeshError:
            continue
    return _ask(network, endpoint, what, key, timeout_s, control=control, keys=keys[-1:])


def _ask(
    network: Network, endpoint: str, what: str, key: str, timeout_s: float, *, control: bool, keys: Sequence[str]
) -> Answer:
    number = next(_requests)
    message: Message = make(Control, number, what, key) if control else make(Lookup, number, what, key)
    numeric = resolve(endpoint)
    socket = open_socket(network, zmq.DEALER, heartbeat_s=LINK_INTERVAL_S, receive_bytes=MAX_FRAME_BYTES)
    try:
        connect(network, socket, numeric, keys)
        socket.send(encode(message), zmq.NOBLOCK)
        receive = _receive_green if _is_green(network.context) else _receive_plain
        frames = receive(socket, timeout_s)
    except zmq.ZMQError as error:
        raise MeshError(str(error), op=what, endpoint=endpoint) from error
    finally:
        socket.close(linger=0)
    if frames is None:
        raise MeshError(f"no answer within {timeout_s:g} s", op=what, endpoint=endpoint)
    try:
        answer = decode(frames[-1], Answer)
    except DecodeError as error:
        raise MeshError(f"not an answer: {error}", op=what, endpoint=endpoint) from error
    if answer.request != number:
        raise MeshError("answered another request", op=what, endpoint=endpoint)
    if answer.error:
        raise Refusal(answer.error, endpoint=endpoint)
    return answer


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
                ask(self._open(), endpoint, "forget", name, self._timeout_s, control=True, keys=self._keys(endpoint))
                done = True
            except MeshError as error:
                refusals.append(error)
        if not done:
            raise next((one for one in refusals if isinstance(one, Refusal)), None) or self._nobody("forget")

    def close(self) -> None:
        """Give up the ZeroMQ context; it comes back when needed."""
        if self._network is not None:
            self._network.close()
            self._network = None

    def _ask(self, what: str, key: str) -> Answer:
        cold: Answer | None = None
        for index in self._order():
            endpoint = self._endpoints[index]
            try:
                answer = ask(self._open(), endpoint, what, key, self._timeout_s, keys=self._keys(endpoint))
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

    def _open(self) -> Network:
        if self._network is None:
            self._network = Network(_make_context(), self._keyring)
        return self._network


def _make_context() -> Context:
    # Where gevent has patched the process, a plain wait would stop its hub. Elsewhere gevent
    # isn't even imported: a command starts twice as fast without.
    monkey = sys.modules.get("gevent.monkey")
    if monkey is not None and monkey.is_module_patched("socket"):
        from zmq import green

        return cast("Context", green.Context())
    return zmq.Context()


def _is_green(context: Context) -> bool:
    return type(context).__module__.startswith("zmq.green")


def _receive_plain(socket: Socket, timeout_s: float) -> list[bytes] | None:
    return socket.recv_multipart() if socket.poll(int(timeout_s * 1000)) else None


def _receive_green(socket: Socket, timeout_s: float) -> list[bytes] | None:
    import gevent

    timeout = gevent.Timeout.start_new(timeout_s)
    try:
        return socket.recv_multipart()
    except gevent.Timeout as fired:
        if fired is not timeout:
            raise
        return None
    finally:
        timeout.close()

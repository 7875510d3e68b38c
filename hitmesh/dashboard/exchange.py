"""The news between datacenters' dashboards: the sockets around `Board`. One is bound, to tell; one for each dashboard
elsewhere is connected, to hear: who is there is known by which socket it came from.

A dashboard that doesn't take its news misses some of them, and holds up nobody.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Mapping
from typing import Final

import gevent
import zmq

from hitmesh.config import Config
from hitmesh.dashboard.news import Board, news_of, part_of
from hitmesh.dashboard.status import Part
from hitmesh.errors import DecodeError
from hitmesh.hub.rest import rest
from hitmesh.mesh.connecting import Connections, bind
from hitmesh.mesh.duty import spawn
from hitmesh.mesh.network import Network
from hitmesh.mesh.outside import listen
from hitmesh.mesh.sockets import FrameReader, open_socket
from hitmesh.protocol.messages import MAX_FRAME_BYTES, News, encode
from hitmesh.protocol.names import bracketed
from hitmesh.state.view import MeshView

QUEUED: Final = 2  # news that wait for one dashboard: a later one is worth more than all before
MAX_PEERS: Final = 256  # dashboards elsewhere that are listened to

log = logging.getLogger(__name__)


class _Peer:
    """A dashboard that is listened to."""

    def __init__(self, network: Network, dc: str, endpoint: str, heartbeat_s: float) -> None:
        self.dc, self.endpoint = dc, endpoint
        self.socket = open_socket(network, zmq.SUB, heartbeat_s=heartbeat_s, receive_bytes=MAX_FRAME_BYTES)
        self.socket.setsockopt(zmq.RCVHWM, QUEUED)
        self.socket.setsockopt(zmq.SUBSCRIBE, b"")
        self.connections = Connections(network, self.socket, [endpoint], what=f"the news of {dc}")
        self.frames = FrameReader(network, self.socket, endpoint, clock=time.monotonic, rest=rest)

    def close(self) -> None:
        self.connections.close()
        self.socket.close(linger=0)


class Exchange:
    """One dashboard's part in it. `id` is its instance id; `name` decides where it is bound."""

    def __init__(self, config: Config, *, name: str, id: str, network: Network) -> None:
        self.board = Board()
        self._dc, self._id = config.name, id
        self._network = network
        self._heartbeat_s = config.timing.heartbeat_s
        self._number = 0
        self._refused = 0
        self._peers: dict[str, _Peer] = {}  # by endpoint
        place = config.placement("dashboard", name)
        self._telling = open_socket(network, zmq.PUB, heartbeat_s=self._heartbeat_s, receive_bytes=MAX_FRAME_BYTES)
        self._telling.setsockopt(zmq.SNDHWM, QUEUED)
        port = "*" if place.port is None else place.port + 1
        self.endpoint = bind(network, self._telling, f"tcp://{bracketed(place.address)}:{port}", "news")
        listen(self._telling, place, self.endpoint)

    def tell(self, part: Part) -> None:
        """Tell the dashboards of the other datacenters."""
        self._number += 1
        with contextlib.suppress(zmq.Again):
            self._telling.send(encode(news_of(part, dashboard=self._id, number=self._number)), zmq.NOBLOCK)

    def follow(self, view: MeshView) -> None:
        """Listen to the dashboards that the mesh shows elsewhere, and to nobody else."""
        wanted: dict[str, str] = {}
        for dc in sorted(view.others):
            for one in view.live("dashboard", dc):
                if endpoint := one.endpoints.get("news", ""):
                    wanted[endpoint] = dc
        wanted = dict(list(wanted.items())[:MAX_PEERS])
        for endpoint in [each for each, peer in self._peers.items() if wanted.get(each) != peer.dc]:
            self._peers.pop(endpoint).close()
        for endpoint, dc in wanted.items():
            if endpoint not in self._peers:
                peer = self._peers[endpoint] = _Peer(self._network, dc, endpoint, self._heartbeat_s)
                spawn(f"the news of {dc}", self._hear, peer)

    def load(self) -> Mapping[str, float]:
        """Figures for the heartbeat."""
        bad = sum(peer.frames.bad for peer in self._peers.values())
        return {"news": self._number, "bad_news": self._refused + bad}

    def stop(self) -> None:
        """Close all sockets."""
        for peer in self._peers.values():
            peer.close()
        self._peers.clear()
        self._telling.close(linger=0)

    def _hear(self, peer: _Peer) -> None:
        while (news := peer.frames.receive(News)) is not None:
            try:
                part = part_of(news, peer.dc)
            except DecodeError as error:
                peer.frames.refuse(error)
                continue
            self.board.hear(news, part, time.monotonic(), time.time())
            gevent.sleep(0)  # to unpack a large one takes a while

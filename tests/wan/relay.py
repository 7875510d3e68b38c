"""The WAN: forwards IP packets between the datacenters' TUN devices, late, with losses, or not at all.

A process of its own. It takes a packet from the device of one datacenter (the file descriptor that its
command line names) and gives it to the device of the datacenter that its destination address is in
(10.<number>.0.0/16, or fd00:<number>::/32), `delay_s` later. Each ordered pair of datacenters is a link with its own delay, loss
and cut, and keeps the order of its packets, as a line does. Told over a socket, one JSON document a
message; each is answered. When that socket closes without a "bye", whoever made the bed was killed: then
this process removes the bed.

Measured: 10,000 packets/s of 1,400 bytes cost it a fifth of a core; it forwards up to 60,000.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import random
import select
import signal
import socket
import sys
import time
from collections import deque
from collections.abc import Mapping
from typing import Any, Final

from tests.wan import netns

MAX_PACKET_BYTES: Final = 65_536
MAX_QUEUED: Final = 20_000  # packets under way on a link: 30 MB, and 240 ms of 80,000 packets/s
BURST: Final = 64  # packets taken from one device before the others have their turn
MAX_MESSAGE_BYTES: Final = 65_536
PRIORITY: Final = -10  # what it delivers late looks like a slow network


class Link:
    """One direction between two datacenters."""

    def __init__(self, out: int, seed: str) -> None:
        self.delay_s = 0.0
        self.loss = 0.0
        self.cut = False
        self.counts = {"sent": 0, "delivered": 0, "lost": 0, "cut": 0, "overflowed": 0}
        self.queue: deque[tuple[float, bytes]] = deque()
        self._out = out
        self._draw = random.Random(seed).random

    def take(self, packet: bytes, now: float) -> None:
        """A packet has come in."""
        counts = self.counts
        counts["sent"] += 1
        if self.cut:
            counts["cut"] += 1
        elif self.loss and self._draw() < self.loss:
            counts["lost"] += 1
        elif len(self.queue) >= MAX_QUEUED:
            counts["overflowed"] += 1
        else:
            self.queue.append((now + self.delay_s, packet))

    def deliver(self, now: float) -> float | None:
        """Put out what is due; when the next one will be."""
        queue = self.queue
        while queue:
            due = queue[0][0]
            if due > now:
                return due
            # A device that has just been taken down, or a packet that the kernel finds broken: lost.
            with contextlib.suppress(OSError):
                os.write(self._out, queue.popleft()[1])
                self.counts["delivered"] += 1
        return None

    def change(self, told: Mapping[str, Any]) -> None:
        """Take over what is told: delay_s, loss, cut. What is under way on a line that is cut is lost."""
        self.delay_s = told.get("delay_s", self.delay_s)
        self.loss = told.get("loss", self.loss)
        self.cut = told.get("cut", self.cut)
        if self.cut:
            self.counts["cut"] += len(self.queue)
            self.queue.clear()


class Relay:
    """All links, between the devices of datacenters that are named by the second number of their addresses."""

    def __init__(self, devices: Mapping[int, int], control: socket.socket, seed: int) -> None:
        self._control = control
        self._number = {device: number for number, device in devices.items()}
        self._links = {
            (source, target): Link(devices[target], f"{seed} {source} {target}")
            for source in devices
            for target in devices
            if source != target
        }
        self._poll = select.epoll()
        for file in (*devices.values(), control.fileno()):
            os.set_blocking(file, False)
            self._poll.register(file, select.EPOLLIN)

    def run(self) -> bool:
        """Forward until told to stop (True), or nobody is left who could (False)."""
        links, control = list(self._links.values()), self._control.fileno()
        while True:
            now = time.monotonic()
            due = [at for link in links if (at := link.deliver(now)) is not None]
            for file, _ in self._poll.poll(max(0.0, min(due) - now) if due else None):
                if file != control:
                    self._take_from(file)
                    continue
                message = self._control.recv(MAX_MESSAGE_BYTES)
                if not message:
                    return False
                told = json.loads(message)
                self._control.send(json.dumps(self._do(told)).encode())
                if told.get("bye"):
                    return True

    def _take_from(self, device: int) -> None:
        source, links, now = self._number[device], self._links, time.monotonic()
        with contextlib.suppress(BlockingIOError):
            for _ in range(BURST):
                packet = os.read(device, MAX_PACKET_BYTES)
                if link := links.get((source, _target(packet))):
                    link.take(packet, now)

    def _do(self, told: Mapping[str, Any]) -> dict[str, Any]:
        for source, target in told.get("links", ()):
            self._links[source, target].change(told)
        return {f"{source} {target}": link.counts for (source, target), link in self._links.items()}


def _target(packet: bytes) -> int:
    """The number of the datacenter that it goes to; 0 for nothing of ours."""
    version = packet[0] >> 4 if packet else 0
    if version == 4 and len(packet) >= 20:
        return packet[17]  # of the destination, bytes 16 to 19
    if version == 6 and len(packet) >= 40 and packet[24:26] == b"\xfd\x00":
        return packet[27]  # of the destination, bytes 24 to 39
    return 0


def main() -> None:
    """The command: CONTROL PREFIX SEED NUMBER=DEVICE..., files by their descriptors."""
    control, prefix, seed, *pairs = sys.argv[1:]
    for number in (signal.SIGINT, signal.SIGTERM):  # of the terminal: whoever made the bed says when it ends
        signal.signal(number, signal.SIG_IGN)
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, 0, PRIORITY)
    gc.freeze()
    devices = {int(number): int(device) for number, _, device in (pair.partition("=") for pair in pairs)}
    with socket.socket(fileno=int(control)) as sock:
        try:
            is_told = Relay(devices, sock, int(seed)).run()
        except ConnectionError:
            is_told = False
    if not is_told:
        netns.remove(prefix)


if __name__ == "__main__":
    main()

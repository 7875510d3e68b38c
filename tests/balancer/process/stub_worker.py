"""A worker that answers every connection with one line: its label, index, pid and the kind of socket.

It keeps to what `balancer.process.processes` says of the descriptors, without any of the balancer's code.
The configuration is JSON; with `beats` it beats, and the first one says that so many workers are wanted as stand in the file
that `wants` names; `mode` is what to do wrong, and `bad` the workers that do (all, if absent).
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import struct
import sys
import time

options = dict(zip(sys.argv[1::2], sys.argv[2::2], strict=True))
index = int(options["--worker"])
text_fd = int(options["--config-fd"])
config = json.loads(os.pread(text_fd, os.fstat(text_fd).st_size, 0))
mode = config.get("mode", "") if index in config.get("bad", [index]) else ""
alive_fd = int(options["--alive-fd"])

listening = {}
for part in options["--fds"].split(","):
    kind, _, fd = part.partition("=")
    listening[socket.socket(fileno=int(fd))] = kind

if mode == "ends before it is ready":
    sys.exit(3)
if mode == "is never ready":
    time.sleep(600)
while mode == "takes its time" and not os.path.exists(config["until"]):  # noqa: PTH110 - pathlib takes its time, too
    time.sleep(0.01)


def beat() -> None:
    """The word that it is well."""
    if config.get("beats"):
        os.pwrite(int(options["--beats-fd"]), struct.pack("=d", time.monotonic()), 0)
    if config.get("wants") and index == 0:
        with open(config["wants"]) as file:  # noqa: PTH123 - pathlib takes its time
            os.pwrite(int(options["--beats-fd"]), struct.pack("=Q", int(file.read()) + 1), 16)


beat()
told, tell = os.pipe()
signal.signal(signal.SIGTERM, lambda number, frame: os.write(tell, b"T"))
if mode == "is deaf":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
channel = socket.socket(fileno=int(options["--ready-fd"]))
channel.send(b"R")
if channel.recv(1) != b"B":
    sys.exit(1)
channel.close()
if mode == "dies at once":
    sys.exit(4)


def answer(listener: socket.socket) -> bool:
    """Take one connection, if there is one."""
    try:
        connection, _ = listener.accept()
    except BlockingIOError:
        return False
    with connection, contextlib.suppress(OSError):
        connection.settimeout(30)
        connection.recv(1)
        connection.sendall(f"{config['label']} {index} {os.getpid()} {listening[listener]}\n".encode())
    return True


while True:
    ready = select.select(
        [*(each.fileno() for each in listening), told, alive_fd], [], [], 0.05 if config.get("beats") else None
    )[0]
    beat()
    if alive_fd in ready:
        os.write(2, b"a worker's master is gone\n")
    if alive_fd in ready or told in ready:
        break
    for each in listening:
        if each.fileno() in ready:
            answer(each)
for each in listening:
    while answer(each):
        pass
    each.close()

"""What a master leaves to the one that its process becomes: descriptors and processes, as one text.

It goes through `exec` in an environment variable. A newer version must understand it, or the
old master goes on: `--check` decodes it first. Knows nothing of what the descriptors are for.
"""

from __future__ import annotations

import os

import msgspec
from msgspec import Struct

from balancer.process.listeners import Address
from balancer.process.processes import read_text
from hitmesh.errors import ConfigError

VARIABLE = "BALANCER_HANDOVER"


class Socket(Struct, frozen=True):
    """The listening sockets of one kind."""

    kind: str
    wanted: Address
    fds: tuple[int, ...]


class Process(Struct, frozen=True):
    """A worker that serves, and its slot."""

    index: int
    pid: int
    beats_fd: int | None = None


class Leaver(Struct, frozen=True):
    """A process that was told to end."""

    pid: int
    kill_at: float  # on the monotonic clock, which goes on


class Handover(Struct, frozen=True, kw_only=True):
    """All that the next master can't find out by itself. New fields need defaults."""

    master: int  # the pid: a process that merely inherited the variable is not meant
    sockets: tuple[Socket, ...]
    alive_fds: tuple[int, int]
    text_fd: int | None  # of the configuration that was checked
    slots: int
    workers: tuple[Process, ...]
    leaving: tuple[Leaver, ...]
    drain_s: float  # that the workers have to drain
    hung: int = 0  # workers that were killed because they hung
    generation: int = 0  # the how manieth the workers are
    told: int = 0  # how many workers are wanted at least, as they said

    def fds(self) -> list[int]:
        """Every descriptor that is named."""
        fds = [fd for each in self.sockets for fd in each.fds]
        others = [self.text_fd, *(each.beats_fd for each in self.workers)]
        return [*fds, *self.alive_fds, *(fd for fd in others if fd is not None)]

    def take_text(self) -> bytes | None:
        """The configuration's text, once."""
        if self.text_fd is None:
            return None
        text = read_text(self.text_fd)
        os.close(self.text_fd)
        return text

    def encode(self) -> str:
        """As `decode` reads it."""
        return msgspec.json.encode(self).decode()


def decode(text: str) -> Handover:
    """What `encode` wrote, in this version or another. Raises ConfigError."""
    try:
        return msgspec.json.decode(text, type=Handover)
    except msgspec.DecodeError as error:
        raise ConfigError(f"{VARIABLE} isn't a handover that this version understands: {error}") from error


def take() -> Handover | None:
    """What was left to this process, once; its descriptors don't go on to any other. Raises ConfigError."""
    text = os.environ.pop(VARIABLE, None)
    if text is None:
        return None
    handover = decode(text)
    if handover.master != os.getpid():
        return None
    for fd in handover.fds():
        os.set_inheritable(fd, False)
    return handover


def check() -> None:
    """Raise ConfigError if there is something that this version wouldn't understand."""
    text = os.environ.get(VARIABLE)
    if text is not None:
        decode(text)

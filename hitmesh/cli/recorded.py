"""What recorders have, for commands: asked of each that lives, or read from its files where these are here."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

from hitmesh.cli import picture
from hitmesh.config import Config
from hitmesh.errors import DecodeError, MeshError
from hitmesh.protocol.messages import Answer, Gap, Read, Recorded, Records, make
from hitmesh.recorder.blocks import unpack
from hitmesh.recorder.volumes import Found, Place, read, volumes_in

if TYPE_CHECKING:
    from hitmesh.mesh.lookup import Line
    from hitmesh.mesh.network import Network

ANSWER_S: Final = 5.0  # a recorder reads some MiB for an answer


class Source:
    """One recorder: where it is asked, and where its files would be."""

    def __init__(self, config: Config, name: str, endpoint: str, folder: Path) -> None:
        self._config, self.name, self._endpoint, self._folder = config, name, endpoint, folder
        self._place = Place(0, 0)
        self._network: Network | None = None
        self._line: Line | None = None
        self.problem = ""
        """Why it couldn't be read; empty when it could."""
        self.read = False
        """Whether it ever could."""

    def is_at(self, other: Source) -> None:
        """It is asked where the other one says from now on."""
        if other._endpoint and other._endpoint != self._endpoint:
            self.close()
            self._endpoint = other._endpoint

    def messages(self, since_ms: int, until_ms: int) -> Iterator[Records | Gap]:
        """What it has of a while, and wasn't read before."""
        more = True
        while more:
            try:
                packed, self._place, more = self._next(since_ms, until_ms)
            except (MeshError, OSError) as error:
                self.problem = str(error)
                return
            self.read = True
            try:
                yield from unpack(packed, self.name)
            except DecodeError as error:
                self.problem = f"some of what it has can't be read: {error}"

    def close(self) -> None:
        """Ask it no more."""
        if self._line is not None:
            self._line.close()
            self._line = None
        if self._network is not None:
            self._network.close()
            self._network = None

    def _next(self, since_ms: int, until_ms: int) -> Found:
        """Its next blocks. Raises MeshError and OSError."""
        if not self._endpoint:
            return self._from_files(since_ms, until_ms)
        try:
            found = self._connected().put(
                "read",
                lambda number: make(Read, number, since_ms, until_ms, *self._place),
                Recorded,
                ANSWER_S,
            )
        except MeshError:
            self.close()
            if not _has_files(self._folder):
                raise
            self.problem = "it doesn't answer; these are its files"
            return self._from_files(since_ms, until_ms)
        return Found(found.packed, Place(found.volume, found.offset), found.more)

    def _from_files(self, since_ms: int, until_ms: int) -> Found:
        if not _has_files(self._folder):
            raise MeshError("it doesn't live, and its files aren't here")
        return read(self._folder, since_ms, until_ms, self._place)

    def _connected(self) -> Line:
        if self._line is None:
            from hitmesh.mesh.lookup import Line, make_context  # ZeroMQ is slow to import, and not every command asks
            from hitmesh.mesh.network import Network, operator_keyring

            self._network = Network(make_context(), operator_keyring(self._config))
            self._line = Line(self._network, self._endpoint)
        return self._line


def sources(config: Config, answer: Answer | None, folder: Path) -> Sequence[Source]:
    """The recorders of a datacenter: those that live, those of its configuration, and those whose files are in `folder`."""
    living = {one.instance.name: one.instance.endpoints.get("logs", "") for one in picture.alive(answer, "recorder")}
    names = {*living, *(one.name for one in config.instances("recorder")), *_with_files(folder)}
    of = partial(Source, config)
    return [of(name, living.get(name, ""), folder / name) for name in sorted(names)]


def _with_files(folder: Path) -> Iterator[str]:
    try:
        places = list(folder.glob("recorder*"))
    except OSError:
        return
    for place in places:
        if _has_files(place):
            yield place.name


def _has_files(folder: Path) -> bool:
    try:
        return bool(volumes_in(folder))
    except OSError:
        return False

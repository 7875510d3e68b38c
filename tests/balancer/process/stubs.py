"""A real master whose workers are stubs that say who they are, and clients that ask them."""

from __future__ import annotations

import contextlib
import itertools
import json
import socket
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from tests.services import PATIENCE_S, WITHOUT_RIGHTS, Server, free_port, wait_for

ANSWER_S = PATIENCE_S


class Answer(NamedTuple):
    label: str
    slot: int
    pid: int
    kind: str


class Stubs(Server):
    """A master and its stub workers."""

    name = "master"

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.file = folder / "config.json"
        self.port = free_port()
        self.config: dict[str, Any] = {
            "label": "a",
            "listen": {"http": f"127.0.0.1:{self.port}"},
            "workers": 2,
            "drain_s": 1.0,
        }
        self.write()

    def write(self, **changes: Any) -> None:
        """Change the configuration; None removes."""
        self.config.update(changes)
        self.config = {key: value for key, value in self.config.items() if value is not None}
        self.file.write_text(json.dumps(self.config))

    def command(self) -> list[str]:
        return [*WITHOUT_RIGHTS, sys.executable, "-m", "tests.balancer.process.master_process", str(self.file)]

    def is_up(self) -> bool:
        return "serves" in self.log()

    def wants(self, workers: int) -> None:
        """From now on the first worker says that so many are wanted; 0: as many as the configuration says."""
        wanted = self.folder / "wanted"
        wanted.with_suffix(".new").write_text(str(workers))
        wanted.with_suffix(".new").rename(wanted)
        if "wants" not in self.config:
            self.write(beats=True, wants=str(wanted), patience={"look_s": 0.2})

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def ended(self) -> int:
        """Wait for its end; the status."""
        assert self.process is not None
        return self.process.wait(PATIENCE_S)

    def says(self, words: str, *, times: int = 1) -> None:
        """Wait until the log has `words`."""
        try:
            wait_for(lambda: self.log().count(words) >= times, what=f"{words!r} in the log")
        except AssertionError as error:
            raise AssertionError(f"{error}; the log: {self.log()[-2000:]}") from error

    def children(self) -> dict[int, str]:
        """Its children and their states."""
        found = {}
        for entry in Path("/proc").iterdir():
            with contextlib.suppress(OSError):
                if entry.name.isdigit():
                    fields = (entry / "stat").read_text().rpartition(")")[2].split()
                    if int(fields[1]) == self.pid:
                        found[int(entry.name)] = fields[0]
        return found

    def ask(self, port: int | None = None) -> Answer:
        """One connection, and what it was told."""
        with asking(port or self.port) as client:
            return answer_to(client)

    def served_by(self, port: int | None = None, *, times: int = 60) -> set[Answer]:
        """Who answers; the kernel spreads connections over the sockets by their hash."""
        return {self.ask(port) for _ in range(times)}

    def labels(self) -> set[str]:
        return {answer.label for answer in self.served_by(times=20)}

    def comes_to(self, label: str) -> None:
        """Wait until nobody else answers: a worker that is told to end may still take a few."""
        wait_for(lambda: self.labels() == {label}, what=f"{label} alone to answer")

    @contextlib.contextmanager
    def under_load(self, *, threads: int = 3, ports: Sequence[int] = ()) -> Iterator[list[Answer]]:
        """Clients that connect all the time, to one port after the other; each must be answered."""
        answers: list[Answer] = []
        failures: list[str] = []
        end = threading.Event()

        def visit() -> None:
            for port in itertools.cycle(ports or [self.port]):
                if end.wait(0.002):
                    return
                try:
                    answers.append(self.ask(port))
                except (OSError, AssertionError) as error:
                    failures.append(repr(error))

        visitors = [threading.Thread(target=visit) for _ in range(threads)]
        for visitor in visitors:
            visitor.start()
        try:
            wait_for(lambda: len(answers) > 20, what="the first answers")
            yield answers
            reached = len(answers)
            wait_for(lambda: len(answers) > reached + 20, what="answers afterwards")
        finally:
            end.set()
            for visitor in visitors:
                visitor.join()
        assert failures == []


def connected(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=ANSWER_S)


def asking(port: int) -> socket.socket:
    """A client that has asked, and waits."""
    client = connected(port)
    client.sendall(b"?")
    return client


def answer_to(client: socket.socket) -> Answer:
    line = b""
    while piece := client.recv(100):
        line += piece
    assert line.endswith(b"\n"), "closed without an answer"
    label, index, pid, kind = line.decode().split()
    return Answer(label, int(index), int(pid), kind)


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in ("Z", "X")
    except OSError:
        return False


def is_refused(port: int) -> bool:
    try:
        connected(port).close()
    except ConnectionRefusedError:
        return True
    return False


@contextlib.contextmanager
def running(folder: Path) -> Iterator[Stubs]:
    """A master to be started, which leaves no process behind."""
    stubs = Stubs(folder)
    yield stubs
    workers = stubs.children() if stubs.process is not None else {}
    stubs.stop()
    wait_for(lambda: not any(map(is_alive, workers)), what="the workers to end")

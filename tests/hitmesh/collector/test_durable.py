"""A hit is on stable storage before its 200 leaves: by the order of system calls, which SIGKILL can't test."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.hitmesh.collector.conftest import PATIENT
from tests.services import require, wait_for
from tests.services.beanstalkd import Beanstalkd
from tests.system.mesh import Mesh

CALLS = "trace=fsync,fdatasync,read,recvfrom,recvmsg,write,writev,sendto,sendmsg,pwrite64"
HITS = 5


@dataclass(frozen=True)
class Call:
    """A system call: when it began and ended, as numbers of lines that all threads share."""

    name: str
    arguments: str
    result: str
    began: int
    ended: int

    @property
    def is_sync(self) -> bool:
        return self.name in ("fsync", "fdatasync") and self.result.startswith("0")


_LINE = re.compile(r"(?P<thread>\d+) +(?P<rest>.*)")
_BEGUN = re.compile(r"(?P<name>\w+)\((?P<arguments>.*?)(?P<unfinished> <unfinished \.\.\.>)?$")
_RESUMED = re.compile(r"<\.\.\. (?P<name>\w+) resumed>(?P<arguments>.*)$")


def strace(output: Path) -> list[str]:
    """The words before a command that has its calls written to `output`, in the order of their happening."""
    return [require("strace"), "-f", "-qq", "-y", "-s", "300", "-e", CALLS, "-o", str(output)]


def calls(output: Path) -> list[Call]:
    """The calls that have ended, in the order of their beginning."""
    open_calls: dict[str, tuple[str, str, int]] = {}
    found = []
    for number, line in enumerate(output.read_text(errors="replace").splitlines()):
        parsed = _LINE.match(line)
        assert parsed, line
        thread, rest = parsed["thread"], parsed["rest"]
        if resumed := _RESUMED.match(rest):
            name, arguments, began = open_calls.pop(thread)
            rest, _, result = resumed["arguments"].rpartition("= ")
            found.append(Call(name, arguments + rest, result, began, number))
        elif begun := _BEGUN.match(rest):
            if begun["unfinished"]:
                open_calls[thread] = (begun["name"], begun["arguments"], number)
            else:
                arguments, _, result = begun["arguments"].rpartition("= ")
                found.append(Call(begun["name"], arguments, result, number, number))
    return sorted(found, key=lambda call: call.began)


def between(found: Sequence[Call], first: Callable[[Call], bool], last: Callable[[Call], bool]) -> Iterator[list[Call]]:
    """For each call that is a `first`: the calls within it and the next that is a `last`, both excluded."""
    for start in filter(first, found):
        end = next(call for call in found if call.began > start.ended and last(call))
        yield [call for call in found if call.began > start.ended and call.ended < end.began]


def is_request(call: Call) -> bool:
    return call.name.startswith("recv") and "POST /hit/durable/page" in call.arguments


def is_answer(call: Call) -> bool:
    return call.name.startswith("send") and "HTTP/1.1 200" in call.arguments


def hit_some(mesh: Mesh) -> None:
    for number in range(1, HITS + 1):
        assert mesh.hit("durable/page").json()["total"] == number
    wait_for(lambda: mesh.totals() == {"durable/page": HITS}, what="the commit")


def test_sqlite_has_synced_a_hit_s_batch_before_its_200_is_sent(tmp_path: Path) -> None:
    output = tmp_path / "calls"
    with Mesh(tmp_path / "mesh", timing=PATIENT, wrappers={"collector": strace(output)}) as mesh:
        hit_some(mesh)
    found = calls(output)
    hits = list(between(found, is_request, is_answer))
    assert len(hits) == HITS
    for hit in hits:
        writes = [call for call in hit if call.name == "pwrite64" and "spool.db-wal>" in call.arguments]
        syncs = [call for call in hit if call.is_sync and "spool.db-wal>" in call.arguments]
        assert writes, "the batch was not written between its request and its answer"
        assert any(sync.began > writes[0].ended for sync in syncs), "its batch was not synced before its answer"


class TracedBeanstalkd(Beanstalkd):
    """A server whose system calls are written down."""

    @property
    def output(self) -> Path:
        return self.folder / "calls"

    def command(self) -> list[str]:
        return [*strace(self.output), *super().command()]

    def stop(self) -> None:
        """Stop the server itself: strace ends with it, but not the other way round."""
        if self.process is not None:
            children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
            for pid in children:
                os.kill(int(pid), signal.SIGTERM)
        super().stop()


@pytest.fixture
def traced(tmp_path: Path) -> Iterator[TracedBeanstalkd]:
    require("strace")
    server = TracedBeanstalkd(tmp_path / "beanstalkd")
    server.start()
    try:
        yield server
    finally:
        server.stop()


def test_beanstalkd_has_synced_a_hit_s_job_before_it_says_inserted(traced: TracedBeanstalkd, tmp_path: Path) -> None:
    output = tmp_path / "calls"
    wrappers = {"collector": strace(output)}
    with Mesh(tmp_path / "mesh", timing=PATIENT, spools=[traced.url("jobs")], wrappers=wrappers) as mesh:
        hit_some(mesh)
    traced.stop()

    def is_put(call: Call) -> bool:
        return call.name == "read" and '"put ' in call.arguments

    def is_inserted(call: Call) -> bool:
        return call.name.startswith("write") and "INSERTED" in call.arguments

    puts = list(between(calls(traced.output), is_put, is_inserted))
    assert len(puts) == HITS
    for put in puts:
        syncs = [call for call in put if call.is_sync and "/binlog/" in call.arguments]
        writes = [call for call in put if call.name.startswith("write") and "/binlog/" in call.arguments]
        assert writes, "the job was not written between its put and its answer"
        assert any(sync.began > writes[-1].ended for sync in syncs), "the job was not synced before INSERTED"

    hits = list(between(calls(output), is_request, is_answer))
    assert len(hits) == HITS
    for hit in hits:
        assert any("INSERTED" in call.arguments for call in hit), "answered without the spool's word"

"""What a line of the access log looks like, and a log that nobody waits for."""

from __future__ import annotations

import fcntl
import logging
import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from balancer.measures.accesslog import BUFFER_BYTES, MAX_KEPT_BYTES, AccessLog, Stamps, line
from hitmesh.cli.accesslog import hit_path
from hitmesh.errors import ConfigError
from hitmesh.output import PIPE_BYTES

STAMP = "10/Oct/2000:13:55:36 +0000"
QUOTED = r'"((?:[^"\\\x00-\x1f\x7f-\xff]|\\x[0-9A-F]{2})*)"'
LINE = re.compile(
    rf"(\S+) - - \[([^\]]+)\] {QUOTED} (\d{{3}}) (\d+|-) {QUOTED} {QUOTED} "
    rf"{QUOTED} (\S+) {QUOTED} (-?\d+/-?\d+/-?\d+/-?\d+) (\S+)\n"
)


# --- lines --------------------------------------------------------------------------------------


def test_a_line_is_combined_format_and_what_the_balancer_knows() -> None:
    assert line(
        STAMP,
        client="192.0.2.7",
        request=b"GET /a?b=c HTTP/1.1",
        status=200,
        size=2326,
        referer=b"https://www.example.com/",
        agent=b"curl/8.0",
        route="*.example.com",
        backend="collector-1",
        times_s=(0.0, 0.0014, 0.0123, 1.2345),
        request_id=b"8f2c-1",
    ) == (
        b'192.0.2.7 - - [10/Oct/2000:13:55:36 +0000] "GET /a?b=c HTTP/1.1" 200 2326 "https://www.example.com/" '
        b'"curl/8.0" "*.example.com" collector-1 "-" 0/1/12/1235 8f2c-1\n'
    )


def test_what_is_not_known_is_a_hyphen_and_what_was_not_reached_minus_one() -> None:
    assert line(STAMP, client="::1", request=b"", status=400, size=0) == (
        b'::1 - - [10/Oct/2000:13:55:36 +0000] "-" 400 - "-" "-" "-" - "-" -1/-1/-1/-1 -\n'
    )


def test_quotes_backslashes_and_what_is_not_printable_are_escaped_as_nginx_does() -> None:
    text = line(STAMP, client="::1", request=b'GET /"\\\x00\n\x7f\xc3\xa4 HTTP/1.1', status=400, size=0, agent=b'a"b')
    assert rb'"GET /\x22\x5C\x00\x0A\x7F\xC3\xA4 HTTP/1.1"' in text
    assert rb'"a\x22b"' in text


@pytest.mark.parametrize("odd", [b'"', b"\\", b"\n", b"\x7f", b"\xff"])
def test_one_odd_character_is_enough_to_be_seen(odd: bytes) -> None:
    for name in ("request", "referer", "agent", "request_id"):
        parts = {"request": b"GET / HTTP/1.1"} | {name: b"a" + odd + b"b"}
        assert rb"a\x%02Xb" % odd[0] in line(STAMP, client="::1", status=400, size=0, **parts)  # type: ignore[arg-type]


def test_a_reason_is_escaped_too() -> None:
    text = line(STAMP, client="::1", request=b"", status=502, size=0, reason='says "no"\nä\udcff')
    assert rb'"says \x22no\x22\x0A\xC3\xA4?"' in text


@given(request=st.binary(), referer=st.binary(), agent=st.binary(), reason=st.text())
def test_nothing_that_a_client_sends_changes_what_a_line_is_made_of(
    request: bytes, referer: bytes, agent: bytes, reason: str
) -> None:
    text = line(
        STAMP,
        client="192.0.2.7",
        request=request,
        status=200,
        size=1,
        referer=referer,
        agent=agent,
        reason=reason,
        request_id=b"id",
    )
    found = LINE.fullmatch(text.decode("latin-1"))
    assert found
    for given_bytes, index in ((request, 3), (referer, 6), (agent, 7)):
        raw = re.sub(rb"\\x(..)", lambda each: bytes.fromhex(each[1].decode()), found[index].encode())
        assert raw == (given_bytes or b"-")


@pytest.mark.parametrize("byte", [b"a", b"\xff"])
def test_a_request_of_any_length_makes_a_line_of_bounded_length(byte: bytes) -> None:
    long = byte * 1_000_000
    text = line(STAMP, client="::1", request=long, referer=long, agent=long, status=431, size=0, request_id=long)
    assert len(text) < 4 * 4 * 8192 + 1000


def test_a_line_is_one_that_hitmesh_replays() -> None:
    text = line(STAMP, client="::1", request=b'GET /a%20b/"c"?d HTTP/1.1', status=200, size=1, route="default")
    assert hit_path(text.decode()) == "example.com/a%20b/%22c%22"
    hit = line(STAMP, client="::1", request=b"POST /hit/example.com/x HTTP/1.1", status=200, size=1)
    assert hit_path(hit.decode()) == "example.com/hit/example.com/x"


def test_a_stamp_is_utc_in_english_and_made_once_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    stamps = Stamps()
    assert stamps.at(971_186_136.9) == STAMP
    assert stamps.at(971_186_136.1) is stamps.at(971_186_136.2)
    assert stamps.at(971_186_137.0) == "10/Oct/2000:13:55:37 +0000"
    assert stamps.at(0.0) == "01/Jan/1970:00:00:00 +0000"


# --- files --------------------------------------------------------------------------------------


def numbered(number: int, length: int = 200) -> bytes:
    return (b"%08d " % number).ljust(length - 1, b"x") + b"\n"


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "access.log"


def test_lines_are_written_when_the_buffer_is_full_or_flushed(target: Path) -> None:
    access_log = AccessLog(target)
    access_log.add(b"one\n")
    assert target.read_bytes() == b""
    access_log.flush()
    assert target.read_bytes() == b"one\n"
    for number in range(BUFFER_BYTES // 200 + 1):
        access_log.add(numbered(number))
    assert len(target.read_bytes()) >= BUFFER_BYTES
    access_log.add(b"last\n")
    access_log.close()
    assert target.read_bytes().endswith(b"last\n")


def test_a_log_is_appended_to_and_not_for_everybody_to_read(target: Path) -> None:
    target.write_bytes(b"before\n")
    access_log = AccessLog(target)
    access_log.add(b"after\n")
    access_log.close()
    assert target.read_bytes() == b"before\nafter\n"
    AccessLog(target.with_name("new.log")).close()
    assert target.with_name("new.log").stat().st_mode & 0o007 == 0


def test_lines_of_several_workers_do_not_mix(target: Path) -> None:
    logs = [AccessLog(target) for _ in range(3)]
    for number in range(3000):
        logs[number % 3].add(numbered(number, 100 + number % 57))
    for access_log in logs:
        access_log.close()
    lines = target.read_bytes().splitlines(keepends=True)
    assert sorted(lines) == [numbered(number, 100 + number % 57) for number in range(3000)]


def test_after_reopen_lines_go_to_the_new_file(target: Path) -> None:
    access_log = AccessLog(target)
    access_log.add(b"old\n")
    target.rename(target.with_name("access.log.1"))
    access_log.reopen()
    access_log.add(b"new\n")
    access_log.close()
    assert target.with_name("access.log.1").read_bytes() == b"old\n"
    assert target.read_bytes() == b"new\n"


def test_a_log_that_can_not_be_opened_again_goes_on_in_the_old_file(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "logs"
    folder.mkdir()
    access_log = AccessLog(folder / "access.log")
    folder.rename(tmp_path / "old")
    access_log.reopen()
    access_log.add(b"still\n")
    access_log.close()
    assert (tmp_path / "old" / "access.log").read_bytes() == b"still\n"
    assert "can't be opened again" in caplog.text


def test_a_log_that_can_not_be_opened_at_all_is_a_mistake_that_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"missing/access\.log.*No such file"):
        AccessLog(tmp_path / "missing" / "access.log")


def test_reopening_keeps_no_descriptor(target: Path) -> None:
    access_log = AccessLog(target)
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(20):
        access_log.reopen()
    assert len(list(Path("/proc/self/fd").iterdir())) == before
    access_log.close()


# --- when it can't be written -------------------------------------------------------------------


def test_a_full_disk_is_said_once_and_counted_and_breaks_nothing(caplog: pytest.LogCaptureFixture) -> None:
    access_log = AccessLog("/dev/full")
    for number in range(10):
        access_log.add(numbered(number))
        access_log.flush()
    assert access_log.errors == 10
    assert [record.levelno for record in caplog.records] == [logging.ERROR]
    assert "No space left" in caplog.text


def test_what_can_not_be_written_is_kept_within_bounds_and_the_rest_counted() -> None:
    access_log = AccessLog("/dev/full")
    lines = MAX_KEPT_BYTES // 1000 + 50
    for number in range(lines):
        access_log.add(numbered(number, 1000))
    assert access_log.dropped == lines - MAX_KEPT_BYTES // 1000
    assert len(access_log._buffer) <= MAX_KEPT_BYTES
    assert access_log.errors <= MAX_KEPT_BYTES // BUFFER_BYTES  # not one try for each line


def test_lines_that_were_kept_are_written_when_there_is_room_again(
    target: Path, caplog: pytest.LogCaptureFixture
) -> None:
    target.symlink_to("/dev/full")
    access_log = AccessLog(target)
    access_log.add(b"kept\n")
    access_log.flush()
    target.unlink()
    access_log.reopen()
    access_log.flush()
    assert target.read_bytes() == b"kept\n"
    assert "is written again" in caplog.text
    access_log.close()


@pytest.fixture
def pipe(tmp_path: Path) -> Iterator[tuple[Path, int]]:
    """A pipe and its reader, who reads nothing by himself."""
    path = tmp_path / "pipe"
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    yield path, reader
    os.close(reader)


def read_all(reader: int) -> bytes:
    found = b""
    while True:
        try:
            data = os.read(reader, 65_536)
        except BlockingIOError:
            return found
        if not data:
            return found
        found += data


def test_a_pipe_whose_reader_is_slow_is_not_waited_for(pipe: tuple[Path, int]) -> None:
    path, reader = pipe
    access_log = AccessLog(path)
    for number in range(5000):  # 1 MB into a pipe of 64 KiB: a write that waited would wait for ever
        access_log.add(numbered(number))
    access_log.flush()
    assert access_log.errors == access_log.dropped == 0
    found = b""
    while data := read_all(reader):
        found += data
        access_log.flush()
    assert found == b"".join(numbered(number) for number in range(5000))


def test_lines_of_two_workers_into_one_pipe_do_not_mix(pipe: tuple[Path, int]) -> None:
    path, reader = pipe
    logs = [AccessLog(path), AccessLog(path)]
    for number in range(2000):
        logs[number % 2].add(numbered(number, 150 + number % 31))
    found = b""
    for _ in range(100):
        for access_log in logs:
            access_log.flush()
        logs.reverse()
        found += read_all(reader)
    assert sorted(found.splitlines(keepends=True)) == [numbered(number, 150 + number % 31) for number in range(2000)]


def test_a_line_that_is_longer_than_a_pipe_takes_whole_goes_through_in_pieces(pipe: tuple[Path, int]) -> None:
    path, reader = pipe
    access_log = AccessLog(path)
    access_log.add(numbered(1, 3 * PIPE_BYTES))
    access_log.add(b"next\n")
    access_log.flush()
    assert read_all(reader) == numbered(1, 3 * PIPE_BYTES) + b"next\n"


def test_a_pipe_without_a_reader_is_an_error_and_no_signal(tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    with pytest.raises(ConfigError):
        AccessLog(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    access_log = AccessLog(path)
    os.close(reader)
    access_log.add(b"lost\n")
    access_log.flush()
    assert access_log.errors == 1


# --- standard output ----------------------------------------------------------------------------

TO_STDOUT = """
from balancer.measures.accesslog import AccessLog
access_log = AccessLog("-")
access_log.add(b"one\\n")
access_log.flush()
print("two", flush=True)
access_log.add(b"three\\n")
access_log.close()
print("four", flush=True)
"""


def blocking(descriptor: int) -> bool:
    return not fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_NONBLOCK


def test_standard_output_may_be_a_pipe_and_stays_as_it_was_for_others() -> None:
    reader, writer = os.pipe()
    subprocess.run([sys.executable, "-c", TO_STDOUT], stdout=writer, check=True, timeout=60)
    assert blocking(writer)
    os.close(writer)
    with open(reader, "rb") as output:  # noqa: PTH123 - a descriptor
        assert output.read() == b"one\ntwo\nthree\nfour\n"


def test_standard_output_may_be_a_socket_as_systemds() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        subprocess.run([sys.executable, "-c", TO_STDOUT], stdout=theirs.fileno(), check=True, timeout=60)
        assert blocking(theirs.fileno())
        assert ours.recv(100) == b"one\ntwo\nthree\nfour\n"


@pytest.mark.parametrize("kind", ["pipe", "socket"])
def test_standard_output_that_nobody_reads_is_not_waited_for(kind: str) -> None:
    ends = os.pipe() if kind == "pipe" else tuple(end.detach() for end in socket.socketpair())
    much = """
from balancer.measures.accesslog import AccessLog
access_log = AccessLog("-")
for _ in range(10_000):
    access_log.add(b"x" * 99 + b"\\n")
access_log.close()
"""
    try:
        subprocess.run([sys.executable, "-c", much], stdout=ends[1], check=True, timeout=60)
    finally:
        for end in ends:
            os.close(end)

"""What a role writes to its log never stops it."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from hitmesh.output import MAX_KEPT_BYTES, Stream
from tests.services import START_S, WITHOUT_RIGHTS
from tests.services.pipes import broken_pipe


@pytest.mark.parametrize("full", [True, False])
def test_lines_that_nobody_reads_are_lost_and_counted_beyond_a_bound(*, full: bool) -> None:
    with broken_pipe(full=full) as pipe:
        stream = Stream(pipe)
        for _ in range(2 * MAX_KEPT_BYTES // 1024):
            stream.write("x" * 1023 + "\n")
        assert stream.lost == MAX_KEPT_BYTES // 1024
        assert os.get_blocking(pipe), "it is shared with others, who expect it to block"


def test_a_full_pipe_of_another_users_stops_nobody() -> None:
    """As supervisord's are, which is root: who may write there by its number may not open it."""
    code = """
from hitmesh.output import free_stderr, lost
free_stderr()
import sys
while not lost():
    sys.stderr.write("x" * 999 + "\\n")
"""
    with broken_pipe(full=True) as pipe:
        os.fchmod(pipe, 0)
        subprocess.run([*WITHOUT_RIGHTS, sys.executable, "-c", code], stderr=pipe, timeout=START_S, check=True)


def test_what_was_kept_is_written_once_somebody_reads_with_the_number_of_what_was_lost() -> None:
    reader, writer = os.pipe()
    stream = Stream(writer)
    while not stream.lost:
        stream.write("x" * 999 + "\n")
    got = bytearray()

    def read() -> None:
        while data := os.read(reader, 65_536):
            got.extend(data)
            if b"lost" in got:
                return

    thread = threading.Thread(target=read)
    thread.start()
    while thread.is_alive():
        stream.flush()
    lines = got.decode().splitlines()
    assert set(lines[:-1]) == {"x" * 999}
    assert lines[-1] == "(1 writes to this log were lost)"
    os.close(reader)
    os.close(writer)


def test_a_file_that_others_write_to_as_well_keeps_everybodys_lines(tmp_path: Path) -> None:
    with (tmp_path / "log").open("wb", buffering=0) as file:
        file.write(b"before\n")
        Stream(file.fileno()).write("ours\n")
        file.write(b"after\n")
    assert (tmp_path / "log").read_bytes() == b"before\nours\nafter\n"


def test_threads_that_write_at_the_same_time_lose_nothing_and_mix_no_lines(tmp_path: Path) -> None:
    with (tmp_path / "log").open("wb") as file:
        stream = Stream(file.fileno())
        threads = [
            threading.Thread(target=lambda n=n: [stream.write(f"{n} {i}\n") for i in range(500)]) for n in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        stream.flush()
    lines = (tmp_path / "log").read_text().splitlines()
    assert sorted(lines) == sorted(f"{n} {i}" for n in range(4) for i in range(500))


def test_a_closed_standard_error_is_no_number_for_the_next_file() -> None:
    code = """
import os
from hitmesh.output import free_stderr
free_stderr()
import sys
sys.stderr.write("nowhere")
os.write(1, b"%d" % os.open("/dev/null", os.O_RDONLY))
"""
    command = ["sh", "-c", '"$0" -c "$1" 0<&- 2>&-', sys.executable, code]
    done = subprocess.run(command, stdout=subprocess.PIPE, timeout=START_S, check=True)
    assert int(done.stdout) > 2


@pytest.mark.parametrize("full", [True, False])
def test_what_gevent_itself_prints_of_errors_stops_neither_its_hub_nor_a_caller(*, full: bool) -> None:
    code = """
import gevent.monkey
gevent.monkey.patch_all()
from hitmesh.output import free_stderr
free_stderr()
import gevent, socket
for _ in range(100):
    gevent.get_hub().loop.run_callback(lambda: 1 / 0)  # printed by the hub
    gevent.spawn(lambda: 1 / 0).join()
    try:
        socket.getaddrinfo("a name", None, flags=socket.AI_NUMERICHOST)  # in the thread pool
    except socket.gaierror:
        print("refused", flush=True)
"""
    with broken_pipe(full=full) as pipe:
        command = [sys.executable, "-c", code]
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=pipe, timeout=START_S, check=True)
    assert done.stdout == b"refused\n" * 100

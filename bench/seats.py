"""The programs that the proxy bench starts: nginx behind, and in turns ours and HAProxy before it.

Each runs in the foreground as our child, pinned to a core, on a port that the kernel gave, and is
stopped by its pid. A seat is a proxy with what /proc says of it: its processor time and memory,
the children's included.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from urllib.request import urlopen

from bench.ports import free_port, wait_for_answer

SBIN = "/usr/sbin:/sbin:/usr/local/sbin"  # where Debian puts servers, and what a user's PATH leaves out
TICKS = os.sysconf("SC_CLK_TCK")
KTHREADD = "2"  # the parent of the kernel's threads
STOP_S = 20.0  # that a proxy may drain
# Of both proxies, and more than the bench opens.
MAX_CONNECTIONS = 12_000
BACKLOG = 4096

NGINX = """
daemon off;
master_process off;
pid {folder}/nginx.pid;
error_log stderr crit;
events {{ worker_connections 8192; }}
http {{
    access_log off;
    sendfile on;
    keepalive_requests 1000000000;
    keepalive_timeout 300s;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    server {{
        listen 127.0.0.1:{port} backlog={backlog};
        default_type text/plain;
        location / {{ return 200 "hello, world\\n"; }}
        location /files/ {{ alias {folder}/; }}
        location = /status {{ stub_status; }}
    }}
}}
"""

# What one would write for this job; `always` because each of many clients may make one request only,
# as ours has it. Where the limit of open files is lower than it likes, HAProxy warns and goes on.
HAPROXY = """
global
    nbthread 1
    maxconn {connections}
    no strict-limits
defaults
    mode http
    option forwardfor
    http-reuse always
    timeout connect 3s
    timeout client 60s
    timeout server 60s
frontend clients
    bind 127.0.0.1:{port} backlog {backlog}
    default_backend servers
backend servers
    server one 127.0.0.1:{backend}
"""


def find(program: str) -> str | None:
    """Its path, also where only root looks."""
    return shutil.which(program) or shutil.which(program, path=SBIN)


class Seat:
    """One program that listens on one port."""

    def __init__(self, command: Sequence[str], port: int, core: int) -> None:
        self.port = port
        self._resident_bytes = 0
        self._process = subprocess.Popen(["taskset", "-c", str(core), *command], stdout=subprocess.DEVNULL)

    @property
    def pid(self) -> int:
        """Of the process that was started: of ours, the master."""
        return self._process.pid

    def wait(self) -> None:
        """Until it answers through."""
        try:
            wait_for_answer(f"http://127.0.0.1:{self.port}/", lambda: self._process.poll() is None)
        except SystemExit:
            self.stop()
            raise

    def stop(self) -> None:
        """As an operator would; SIGKILL when that doesn't help."""
        self._process.terminate()
        try:
            self._process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def cpu_s(self) -> float:
        """Processor time that it has used so far."""
        return cpu_s(self.pid)

    def memory_bytes(self) -> int:
        """Its share of what is in memory now (PSS: a page that two processes share counts half for each)."""
        return self._memory("smaps_rollup", "Pss")

    def forget_peak(self) -> None:
        """Let `growth_bytes` count from now on."""
        for pid in tree(self.pid):
            Path(f"/proc/{pid}/clear_refs").write_text("5")  # see proc(5): VmHWM becomes VmRSS
        self._resident_bytes = self._memory("status", "VmHWM")

    def growth_bytes(self) -> int:
        """By how much its memory has at most exceeded what it was when the peak was forgotten."""
        return self._memory("status", "VmHWM") - self._resident_bytes

    def _memory(self, file: str, key: str) -> int:
        total = 0
        for pid in tree(self.pid):
            found = re.search(rf"^{key}:\s+(\d+) kB", Path(f"/proc/{pid}/{file}").read_text(), re.MULTILINE)
            assert found, f"/proc/{pid}/{file} has no {key}"
            total += int(found[1])
        return total * 1024


def tree(pid: int) -> list[int]:
    """A process, its children and theirs."""
    pids = [pid]
    for each in pids:  # grows meanwhile
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # ended just now
            for task in Path(f"/proc/{each}/task").iterdir():
                pids += map(int, (task / "children").read_text().split())
    return pids


def cpu_s(pid: int) -> float:
    """Processor time that a process and its living children have used so far."""
    return sum(_used_s(each)[0] for each in tree(pid))


def others_cpu_s() -> float:
    """Processor time that neither we nor our children have used so far, living or ended.

    Not from /proc/stat, which is sampled at the clock's ticks and misses what runs briefly.
    """
    ours = set(tree(os.getpid()))
    return sum(sum(_used_s(int(each.name))) for each in Path("/proc").glob("[0-9]*") if int(each.name) not in ours)


def _used_s(pid: int) -> tuple[float, float]:
    """Of the process itself, and of children that it had; nothing of one that has just ended.

    Nor of the kernel's own threads: what they do, they do for us as well.
    """
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return 0.0, 0.0
    # the name, in parentheses, may hold blanks
    fields = stat.rpartition(")")[2].split()
    if fields[1] == KTHREADD:
        return 0.0, 0.0
    own_user, own_system, ended_user, ended_system = map(int, fields[11:15])
    return (own_user + own_system) / TICKS, (ended_user + ended_system) / TICKS


def nginx(folder: Path, core: int) -> Seat:
    """The backend: a constant, and the files in `folder`."""
    port = free_port()
    config = folder / "nginx.conf"
    config.write_text(NGINX.format(folder=folder, port=port, backlog=BACKLOG))
    seat = Seat([find("nginx") or "nginx", "-p", str(folder), "-e", "stderr", "-c", str(config)], port, core)
    seat.wait()
    return seat


def requests_seen(nginx: Seat) -> int:
    """How many requests it has had so far, this one included."""
    with urlopen(f"http://127.0.0.1:{nginx.port}/status") as answer:
        # "server accepts handled requests", and below it the three numbers
        return int(answer.read().split()[9])


def haproxy(folder: Path, core: int, backend: int) -> Seat:
    """HAProxy with one thread."""
    port = free_port()
    config = folder / f"haproxy-{port}.cfg"
    config.write_text(HAPROXY.format(connections=MAX_CONNECTIONS, port=port, backlog=BACKLOG, backend=backend))
    seat = Seat([find("haproxy") or "haproxy", "-q", "-db", "-f", str(config)], port, core)
    seat.wait()
    return seat


def balancer(command: Sequence[str], core: int, backend: int) -> Seat:
    """Ours with one worker process."""
    port = free_port()
    addresses = ["--listen", f"127.0.0.1:{port}", "--backend", f"127.0.0.1:{backend}"]
    seat = Seat([*command, *addresses], port, core)
    seat.wait()
    return seat

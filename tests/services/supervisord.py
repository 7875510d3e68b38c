"""The configuration of a real supervisord that runs what a test says."""

from __future__ import annotations

from pathlib import Path

from hitmesh.cli import folder

_CONF = """
[unix_http_server]
file = {socket}
[supervisord]
nodaemon = true
silent = true
logfile = {state}/log/supervisord.log
pidfile = {state}/supervisord.pid
childlogdir = {state}/log
[rpcinterface:supervisor]
supervisor.rpcinterface_factory = supervisor.rpcinterface:make_main_rpcinterface
"""


def write_conf(state: Path, programs: str) -> None:
    """Write that of a state folder, with the sections of these programs."""
    (state / "log").mkdir(exist_ok=True)
    text = _CONF.format(socket=folder.new_socket_path(state), state=state) + programs
    folder.conf_path(state).write_text(text, encoding="utf-8")

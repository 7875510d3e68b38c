"""What is written on a host, from a datacenter's file."""

from __future__ import annotations

from hitmesh.deploy.files import File
from hitmesh.deploy.fleet import Fleet, Host
from hitmesh.deploy.paths import config_path
from hitmesh.deploy.render import beanstalkd, consul, keepalived, nftables, supervisor, system

_KINDS = (beanstalkd, consul, system, nftables, keepalived)


def files_for(fleet: Fleet, host: Host, text: str) -> list[File]:
    """All rendered files of a host; `text` is the datacenter's file. Raises CommandError."""
    rendered = [file for kind in _KINDS for file in kind.files(fleet, host)]
    return [File(path=config_path(fleet.dc), text=text), *supervisor.files(fleet, host, text), *rendered]

"""What is written on a host, from a datacenter's file."""

from __future__ import annotations

from hitmesh.deploy.files import File
from hitmesh.deploy.paths import config_path
from hitmesh.deploy.render import beanstalkd, consul, keepalived, nftables, supervisor, system
from hitmesh.deploy.site import Host, Site

_KINDS = (beanstalkd, consul, system, nftables, keepalived)


def files_for(site: Site, host: Host, text: str) -> list[File]:
    """All rendered files of a host; `text` is the datacenter's file. Raises CommandError."""
    rendered = [file for kind in _KINDS for file in kind.files(site, host)]
    return [File(path=config_path(site.dc), text=text), *supervisor.files(site, host, text), *rendered]

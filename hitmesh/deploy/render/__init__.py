"""What is written on a host, from a datacenter's file. Pure."""

from __future__ import annotations

from pathlib import Path

from hitmesh.deploy.files import File
from hitmesh.deploy.paths import config_path
from hitmesh.deploy.site import Host, Site


def files_for(site: Site, host: Host, text: str, folder: Path) -> list[File]:
    """All rendered files of a host; `text` is the datacenter's file, from `folder`."""
    return [File(path=config_path(site.dc), text=text)]

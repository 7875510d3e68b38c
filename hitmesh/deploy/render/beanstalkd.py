"""The beanstalkd servers of a host: a program for each spool that the datacenter's file has there. Pure."""

from __future__ import annotations

from hitmesh.cli.layout import JOB_BYTES
from hitmesh.config import host_port
from hitmesh.config.addresses import usual
from hitmesh.deploy.files import File
from hitmesh.deploy.fleet import Fleet, Host
from hitmesh.deploy.paths import state_folder
from hitmesh.deploy.render.supervisor import program_file

STOP_WAIT_S = 10


def files(fleet: Fleet, host: Host) -> list[File]:
    """Their program files. They are numbered on their host: what is in their folders stays theirs when hosts are added."""
    return [
        program_file(fleet.dc, "beanstalkd", f"beanstalkd-{number}", {
            "beanstalkd": "beanstalkd",
            "address": host.address,
            "port": str(port),
            "folder": state_folder(f"beanstalkd-{number}"),
            "job_bytes": str(JOB_BYTES),
            "stop_wait_s": str(STOP_WAIT_S),
        })
        for number, port in enumerate(ports(fleet, host), start=1)
    ]  # fmt: skip


def ports(fleet: Fleet, host: Host) -> list[int]:
    """The ports at which the datacenter's spools are on a host."""
    if not host.has_beanstalkd:
        return []
    spools = [url.partition("://") for url in fleet.config.stores.spools]
    places = [host_port(rest.partition("/")[0]) for scheme, _, rest in spools if scheme == "beanstalk"]
    return [port for address, port in places if usual(address) == usual(host.address)]

"""From a host with nothing but sshd to one that the host program answers on, and whose Consul and beanstalkd run.

Owns what is sent to it: a tar of `hitmesh/deploy/host/bootstrap.py`, its settings and a release's wheels, which are
unpacked and run there as root. What is after that, rendered files and programs, goes the way of every deploy.
"""

from __future__ import annotations

import io
import tarfile
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from hitmesh.deploy import boot
from hitmesh.deploy.files import File
from hitmesh.deploy.fleet import Fleet, Host
from hitmesh.deploy.host import bootstrap as script
from hitmesh.deploy.host.rules import USERS
from hitmesh.deploy.paths import (
    CURRENT,
    ETC,
    HOME,
    KEYS,
    LOGS,
    PROGRAMS,
    RELEASES,
    STATE,
    SYSTEM,
    config_path,
    user_of,
)
from hitmesh.deploy.refusals import refuse_bootstrap
from hitmesh.deploy.remote import RemoteHost
from hitmesh.deploy.render import beanstalkd, consul, nftables, system
from hitmesh.deploy.ssh import Ssh
from hitmesh.errors import CommandError

GROUP: Final = "hitmesh"
ENVIRONMENTS: Final = f"{HOME}/systems"
NOT_FOUND: Final = 127  # a shell's status for a program that isn't there
BOOTSTRAP_S: Final = 900.0  # with packages from a slow mirror
# Unpacked where only root can look: nobody else may put anything beside the script.
UNPACK: Final = "d=$(mktemp -d) && tar -x -C $d && {python} -I $d/bootstrap.py; s=$?; rm -rf $d; exit $s"
# Debian's package of each program.
PACKAGES: Final = {
    "sudo": "sudo", "sysctl": "procps", "consul": "consul", "beanstalkd": "beanstalkd", "keepalived": "keepalived",
    "nft": "nftables",
}  # fmt: skip
# What is run from the environment: whether it can be is seen once, and compiled.
MODULES: Final = (
    "hitmesh.deploy.host.main",
    "hitmesh.deploy.memory",
    "hitmesh.settings.open",
    "hitmesh.cli.supervisord",
)
_RC: Final = ("/etc/rc2.d", "/etc/rc3.d", "/etc/rc4.d", "/etc/rc5.d")  # which of them is for the host's init to say


class Said(msgspec.Struct, frozen=True):
    """What the script says when all went well."""

    changed: list[str]


def bootstrap(
    fleet: Fleet,
    text: str,
    host: RemoteHost,
    root: Ssh,
    release: Path,
    authorized_keys: Sequence[str],
    secrets: Mapping[str, str],
) -> list[str]:
    """Make a host ready for deploys; what was changed, nothing when it was. Raises CommandError.

    `text` is the datacenter's file; `root` logs in as the bootstrap's user; `release` is a release's tar, whose wheels
    are taken; `secrets` are Consul's own, by name.
    """
    refuse_bootstrap(fleet.config, host)
    changed = _make(fleet, host.host, root, release, authorized_keys)
    if fleet.has_consul:
        for name, secret in secrets.items():
            changed += host.secret("consul", name, secret)
        place = f"{KEYS}/{fleet.dc}/consul/{consul.AGENT}"
        if consul.token_name(fleet) and consul.AGENT not in secrets and place not in host.facts().files:
            changed += host.secret("consul", consul.AGENT, consul.WITHOUT_AGENT)  # `fab keys` brings one
    changed += host.write([File(path=config_path(fleet.dc), text=text), *files(fleet, host.host)])
    running = {one.name: one.state for one in host.facts().programs or ()}
    for name in servers(fleet, host.host):
        if running.get(name) != "RUNNING":
            state = host.start(name)
            if state.state != "RUNNING":
                raise CommandError(f"{host.name}: {name} doesn't start: {state.state} {state.why}".rstrip())
            changed.append(f"{name} started")
    return changed


def files(fleet: Fleet, host: Host) -> list[File]:
    """The rendered files that a host has before any release."""
    return [file for kind in (system, nftables, consul, beanstalkd) for file in kind.files(fleet, host)]


def servers(fleet: Fleet, host: Host) -> list[str]:
    """The programs that a host runs before any release, Consul first."""
    paths = [file.path for kind in (consul, beanstalkd) for file in kind.files(fleet, host)]
    return [Path(path).stem.removeprefix(f"{fleet.dc}-") for path in paths if path.startswith(f"{PROGRAMS}/")]


def programs(fleet: Fleet, host: Host) -> list[str]:
    """What must be on a host's PATH, besides Python."""
    found = ["sudo", "sysctl"]
    if fleet.has_consul:
        found.append("consul")
    if host.has_beanstalkd:
        found.append("beanstalkd")
    if host.of("balancer") and fleet.config.virtual_ip.address:
        found.append("keepalived")
    if fleet.config.deploy.firewall:
        found.append("nft")
    return found


def settings(fleet: Fleet, host: Host, authorized_keys: Sequence[str]) -> dict[str, Any]:
    """What the script is told."""
    deploy = fleet.config.deploy
    return {
        "may_install": deploy.packages,
        "packages": {program: PACKAGES[program] for program in programs(fleet, host)},
        "deploy_user": deploy.user,
        "group": GROUP,
        "users": USERS,
        # Who may ask the host's supervisord, and tell it to start and stop programs.
        "askers": [user_of("operator"), *([user_of("scaler")] if host.of("scaler") else [])],
        "authorized_keys": authorized_keys,
        # Path, group, mode; all of them root's.
        "folders": [
            *((path, "root", 0o755) for path in (HOME, ENVIRONMENTS, RELEASES, CURRENT, ETC, KEYS, STATE, PROGRAMS)),
            (LOGS, deploy.user, 0o750),
        ],
        "links": {
            f"{ETC}/hitmesh.toml": Path(config_path(fleet.dc)).name,
            f"{STATE}/{fleet.dc}": ETC,  # where commands look for a datacenter's file, and what it names beside it
            f"{ETC}/var": STATE,  # where commands look for a mesh, from ETC
            **{f"{folder}/S99hitmesh": "../init.d/hitmesh" for folder in _RC},
        },
        "environments": ENVIRONMENTS,
        "system": SYSTEM,
        "modules": MODULES,
        "files": boot.files(deploy.user),
        "sudoers": boot.SUDOERS,
        "sudo_rule": boot.sudo_rule(deploy.user),
        "boot": boot.BOOT,
        "socket": f"{STATE}/supervisor.sock",
        "supervisord_log": f"{LOGS}/boot.log",
    }


def pack(release: Path, told: dict[str, Any], into: Path) -> None:
    """The tar that is sent: the script, what it is told, and the wheels of a release's tar."""
    with tarfile.open(into, "w") as packed, tarfile.open(release) as taken:
        _add(packed, "bootstrap.py", Path(script.__file__).read_bytes())
        _add(packed, "settings.json", msgspec.json.encode(told))
        for member in taken:
            content = taken.extractfile(member)
            if content is not None and member.name.startswith("wheels/"):
                packed.addfile(member, content)


def _make(fleet: Fleet, host: Host, root: Ssh, release: Path, authorized_keys: Sequence[str]) -> list[str]:
    with tempfile.TemporaryDirectory() as folder:
        tar = Path(folder) / "bootstrap.tar"
        pack(release, settings(fleet, host, authorized_keys), tar)
        command = UNPACK.format(python=fleet.config.deploy.python)
        result = root.run(host, ["sh", "-c", command], stdin=tar, timeout_s=BOOTSTRAP_S)
    if result.status:
        last = (result.err.splitlines() or ["no word"])[-1]
        try:
            said = msgspec.json.decode(last, type=dict[str, str])
        except msgspec.MsgspecError:
            if result.status == NOT_FOUND:
                python = fleet.config.deploy.python
                raise CommandError(
                    f"{host.name}: there is no {python}", hint="install Python 3.11 or later; deploy.python names it"
                ) from None
            raise CommandError(f"{host.name}: bootstrap ended with {result.status}: {last}") from None
        raise CommandError(f"{host.name}: {said.get('error', last)}", hint=said.get("hint", ""))
    return msgspec.json.decode(result.out, type=Said).changed


def _add(packed: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    packed.addfile(member, io.BytesIO(content))

"""The state folder as commands find it: which datacenters it holds, and where things are in it.

`hitmesh up` writes it, everything else reads. A datacenter is a folder with a hitmesh.toml; one
that an earlier `up` left behind still has its totals, so it counts.
"""

from __future__ import annotations

import configparser
import contextlib
import fcntl
import hashlib
import os
import sysconfig
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from hitmesh import config as settings
from hitmesh.cli.options import CONF_NAME, CONFIG_NAME
from hitmesh.cli.processes import named, of_mesh
from hitmesh.cli.sizes import Size
from hitmesh.config import Config, Role
from hitmesh.errors import CommandError

SIZES_NAME = "scaled.json"
SOCKET_NAME = "supervisor.sock"
# A Unix socket's path has at most 107 bytes, and supervisord first binds one with ".PID" behind it.
MAX_SOCKET_PATH_BYTES = 96


def datacenters(state_dir: Path) -> list[Config]:
    """The configuration of each datacenter, in the order of their ports. Raises CommandError."""
    configs = [settings.load(path) for path in config_paths(state_dir)]
    if not configs:
        if found := of_mesh(state_dir):
            raise CommandError(
                f"the files of the mesh in {state_dir} are gone, and it runs: {named(found)}",
                hint="`hitmesh down` stops it",
            )
        raise CommandError(f"no mesh in {state_dir}", hint="`hitmesh up` makes one; --state-dir names another folder")
    return sorted(configs, key=lambda config: (config.ports.collector, config.name))


def config_paths(state_dir: Path) -> list[Path]:
    """Where the configurations are. Raises CommandError for a folder that isn't ours to read."""
    try:
        with os.scandir(state_dir) as entries:
            names = sorted(entry.name for entry in entries)
    except FileNotFoundError:
        return []
    except OSError as error:
        raise CommandError(f"{state_dir}: can't be read: {error.strerror}") from error
    return [path for name in names if _is_there(path := config_path(state_dir, name))]


def _is_there(path: Path) -> bool:
    """Whether this is a datacenter's; a folder that is closed to us is an instance's own, on a host."""
    with contextlib.suppress(PermissionError):
        return path.is_file()
    return False


def config_path(state_dir: Path, dc: str) -> Path:
    """Where the configuration of a datacenter is."""
    return state_dir / dc / CONFIG_NAME


def sizes(state_dir: Path, dc: str) -> dict[Role, Size]:
    """What `hitmesh scale` was told about a datacenter. Raises CommandError when it can't be read."""
    path = state_dir / dc / SIZES_NAME
    try:
        return msgspec.json.decode(path.read_bytes(), type=dict[Role, Size])
    except FileNotFoundError:
        return {}
    except (OSError, msgspec.MsgspecError) as error:
        raise CommandError(f"{path}: can't be read: {error}", hint="without it the template's numbers hold") from error


def replace_text(path: Path, text: str, *, mode: int = 0o600) -> None:
    """Write a file so that everybody finds the old one or the new one, whole. Raises CommandError."""
    new = path.with_name(f".{path.name}.new")
    try:
        with new.open("w", encoding="utf-8") as file:
            new.chmod(0o600)  # balancer.admin_token may be in it
            file.write(text)
            new.chmod(mode)
            file.flush()
            os.fsync(file.fileno())
        new.replace(path)
    except OSError as error:
        raise CommandError(f"{path}: can't be written: {error.strerror}") from error


def conf_path(state_dir: Path) -> Path:
    """Where supervisord's configuration is."""
    return state_dir / CONF_NAME


def pid_path(state_dir: Path) -> Path:
    """Where supervisord writes its process id."""
    return state_dir / "supervisord.pid"


def new_socket_path(state_dir: Path) -> Path:
    """Where supervisord is to listen: in the state folder, or where its path is short enough."""
    path = state_dir / SOCKET_NAME
    if len(os.fsencode(path)) <= MAX_SOCKET_PATH_BYTES:
        return path
    digest = hashlib.sha256(os.fsencode(state_dir)).hexdigest()[:16]
    return Path(tempfile.gettempdir()) / f"hitmesh-{os.getuid()}-{digest}.sock"


def socket_path(state_dir: Path) -> Path | None:
    """Where the supervisord of this folder listens, when it was ever started."""
    if (path := state_dir / SOCKET_NAME).exists():
        return path  # wherever the folder was when its configuration was written
    parser = configparser.RawConfigParser(inline_comment_prefixes=(";", "#"))
    try:
        parser.read_string(conf_path(state_dir).read_text(encoding="utf-8"))
        path = Path(parser["unix_http_server"]["file"].replace("%%", "%"))
    except (OSError, KeyError, configparser.Error, UnicodeDecodeError):
        return None
    return path if path.name != SOCKET_NAME else None  # another folder's, from which this one was moved or copied


@contextmanager
def alone(state_dir: Path, command: str) -> Iterator[None]:
    """No second `hitmesh COMMAND` in this folder at the same time. Raises CommandError."""
    try:
        lock = (state_dir / f"{command}.lock").open("w", encoding="utf-8")
    except FileNotFoundError as error:
        raise CommandError(f"no mesh in {state_dir}", hint="--state-dir names another folder") from error
    except OSError as error:
        raise CommandError(f"{state_dir}: can't be written: {error.strerror}") from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise CommandError(
                f"another `hitmesh {command}` is at work in {state_dir}", hint="wait for its end"
            ) from error
        yield


def shipped(path: str) -> Path:
    """A file that comes with hitmesh: beside the package in a checkout, else where pip put it."""
    checkout = Path(__file__).parents[2] / path
    installed = Path(sysconfig.get_path("data")) / "share" / "hitmesh" / path
    for found in (checkout, installed):
        if found.exists():
            return found
    raise CommandError(f"{path} is neither at {checkout} nor at {installed}", hint="reinstall hitmesh")

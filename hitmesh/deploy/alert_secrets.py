"""The files with the alerts' secrets that a datacenter's file names: whether a deploy can bring each to the dashboards.

They go there as all that is in a role's folder of keys does (`keys`), and are read when they are used: a new one needs
no restart. What is named in full, or outside of the datacenter's folder, is on the hosts already, or nowhere.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from hitmesh.config.alerts import Alerts
from hitmesh.deploy.desk import Desk
from hitmesh.deploy.host.rules import MAX_SECRET_BYTES, secret_place
from hitmesh.errors import CommandError


def secret_problems(desk: Desk) -> Iterator[str]:
    """Why the dashboards would stand there without a secret that the file names; each a line, without what is in it."""
    if not any(one.role == "dashboard" for host in desk.fleet.hosts for one in host.instances):
        return
    beside = desk.path.resolve().parent
    keys = Path(desk.config.keys) if desk.config.keys else beside / "keys"
    folder = keys / desk.fleet.dc / "dashboard"
    for key, path in named(desk.config.alerts):
        if not path.is_relative_to(beside):
            continue
        if path.parent != folder:
            yield f"{key}: {path} isn't brought to the hosts: what is in {folder} is, or name one in full that is there"
        elif not desk.config.keys:
            yield f'{key}: {path} isn\'t brought to the hosts: it goes there with the keys, and keys = "keys" is missing'
        elif why := _wrong(path, desk.fleet.dc):
            yield f"{key}: {path} {why}"


def hook_problems(desk: Desk) -> Iterator[str]:
    """Why the scalers would stand there without the hook that the file names."""
    hook = desk.config.scaler.hook
    if hook and Path(hook).is_relative_to(desk.path.resolve().parent):
        yield f"scaler.hook: {hook} isn't brought to the hosts: name one in full that is there"


def named(alerts: Alerts) -> Iterator[tuple[str, Path]]:
    """Each file, in full, and the key that names it."""
    for number, each in enumerate(alerts.webhook):
        for key in ("url_file", "token_file"):
            if file := getattr(each, key):
                yield f"alerts.webhook[{number}].{key}", Path(file)
    if alerts.mail.password_file:
        yield "alerts.mail.password_file", Path(alerts.mail.password_file)


def _wrong(path: Path, dc: str) -> str:
    try:
        secret_place(dc, "dashboard", path.name)
        content = path.read_bytes()
    except CommandError as error:
        return f"isn't brought to the hosts: {error.message}"
    except FileNotFoundError:
        return "isn't there"
    except OSError as error:
        return f"can't be read: {error.strerror}"
    if len(content) > MAX_SECRET_BYTES or len(words := content.split()) != 1 or not words[0].isascii():
        return "must hold one word of printable ASCII"
    return ""

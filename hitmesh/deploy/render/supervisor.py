"""supervisord and its programs on a host, from the same templates as `hitmesh up`'s. Pure, but for the templates."""

from __future__ import annotations

import math
import re
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from hitmesh.cli.folder import SOCKET_NAME, shipped
from hitmesh.cli.layout import STOP_GRACE_S, Program, program_text, supervisord_text
from hitmesh.config import Placement
from hitmesh.deploy.files import File
from hitmesh.deploy.fleet import SEES, Fleet, Host, sees
from hitmesh.deploy.paths import LOGS, PROGRAMS, RUN, STATE, config_path, state_folder, user_of

OPEN_FILES: Final = 1024  # of which supervisord makes sure; hitmesh-boot asks for as many as a balancer needs


def files(fleet: Fleet, host: Host, text: str) -> list[File]:
    """A program file for each instance of a role on this host, and for those that its scaler may start; `text` is the
    datacenter's file.
    """
    return [
        *(_role(fleet, one, text) for one in host.instances),
        *(_role(fleet, one, text, is_spare=True) for one in host.spares),
    ]


def program_file(
    dc: str, role: str, name: str, values: Mapping[str, str], *, user: str = "", sees: str = "", is_spare: bool = False
) -> File:
    """The file of one program: the template of its role, its user, and a folder of its own."""
    folder = state_folder(name)
    own = [
        f"user = {user or user_of(role)}",
        f"directory = {folder}",
        "umask = 077",
        f'environment = HOME="{folder}",PYTHONUNBUFFERED="1",PYTHONSAFEPATH="1"'
        + (f',{SEES}="{sees}"' if sees else ""),
    ]
    text = program_text(Program(dc, role, name, values, is_spare), Path(LOGS), _template(role))
    return File(path=f"{PROGRAMS}/{dc}-{name}.conf", text=text + "\n".join(own) + "\n", then="supervisor")


def supervisord_conf(deploy_user: str) -> str:
    """supervisord.conf of a host: programs are in files of their own, and the deploy user may start and stop them."""
    text = supervisord_text(
        _template("supervisord"), state=Path(STATE), socket=Path(STATE) / SOCKET_NAME, logs=Path(LOGS), minfds=OPEN_FILES,
        access=f"chown = root:{deploy_user}\nchmod = 0770",
    )  # fmt: skip
    text = text.replace(
        "[supervisord]\n", "[supervisord]\nuser = root\n"
    )  # on purpose: each program has a user of its own
    return f"{text}\n[include]\nfiles = {PROGRAMS}/*.conf\n"


def seen(file: File) -> str:
    """What the instance of a program file is to be started with; empty for another file."""
    found = re.search(rf'{SEES}="([0-9a-f]+)"', file.text)
    return found[1] if found else ""


def _role(fleet: Fleet, one: Placement, text: str, *, is_spare: bool = False) -> File:
    values = {
        "python": f"{RUN} {one.name}",  # finds the release's own
        "config": shlex.quote(config_path(fleet.dc)),
        "state": shlex.quote(state_folder(one.name)),
        "stop_wait_s": str(math.ceil(fleet.config.timing.drain_s) + STOP_GRACE_S),
    }
    return program_file(fleet.dc, one.role, one.name, values, sees=sees(text, one), is_spare=is_spare)


def _template(name: str) -> str:
    return shipped(f"supervisor/{name}.conf").read_text(encoding="utf-8")

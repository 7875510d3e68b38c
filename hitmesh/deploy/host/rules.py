"""What the host program takes. Pure: every rule by which what a deploy brings is refused.

Whatever is read by a program that is root (supervisord, keepalived, nft, sysctl) is held to what our own renders write,
line by line: a program's user is a role's, its log is where logs are, and nothing names another file. What is read by
a role's own user needs no such rule.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from typing import Final

import msgspec

from hitmesh.config import ROLES
from hitmesh.deploy.consul_requests import Request
from hitmesh.deploy.files import File
from hitmesh.deploy.paths import (
    CONSUL_CONF,
    FIREWALL_CONF,
    KEEPALIVED_CONF,
    KEYS,
    LOGS,
    PROGRAMS,
    RUN,
    SYSCTL_CONF,
    SYSTEM,
    config_path,
    user_of,
)
from hitmesh.errors import CommandError

MAX_FILES: Final = 256  # a host's: some ten, and one for each instance, of which it has 64 of a role at most
MAX_TEXT_BYTES: Final = 16 * 1024 * 1024  # a list of keys; anything else is far smaller
MAX_SECRET_BYTES: Final = 65_536  # a certificate's chain with its key; read_secret takes no more
SERVERS: Final = ("consul", "beanstalkd")  # beside the roles
USERS: Final = tuple(user_of(role) for role in (*ROLES, *SERVERS, "operator"))
MAX_CONSUL_REQUESTS: Final = 64  # for each role a few
MAX_CONSUL_BODY_BYTES: Final = 16_384  # the longest policy has some 600
MODES: Final = (0o600, 0o640, 0o644)

_NAME: Final = r"[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?"
_DC = re.compile(_NAME)
_RELEASE_ID = re.compile(r"[0-9A-Za-z][0-9A-Za-z.+]{0,40}-[0-9a-f]{12}")
_INSTANCE = re.compile(rf"({'|'.join((*ROLES, *SERVERS, 'keepalived', 'vip'))})-[1-9][0-9]{{0,3}}")
_SECRET_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,62}(\.[a-z]{1,8})?")
_WHEEL = re.compile(r"[A-Za-z0-9_.]+-[A-Za-z0-9_.!+]+(-[0-9][A-Za-z0-9_.]*)?-[a-z0-9_.]+-[a-z0-9_.]+-[a-z0-9_.]+\.whl")

_LINE = re.compile(r"(?P<key>[a-z_]+) *= *(?P<value>\S.*)")
_NUMBER = re.compile(r"[0-9]{1,9}")
_WORD = re.compile(r"[A-Za-z0-9]{1,10}")
# A program's settings but for those that `check_program` looks at itself.
_PLAIN: Final = {
    **dict.fromkeys(("priority", "startsecs", "startretries", "stopwaitsecs", "umask"), _NUMBER),
    **dict.fromkeys(("autostart", "autorestart", "stopasgroup", "killasgroup", "redirect_stderr", "stopsignal"), _WORD),
    "stdout_logfile_maxbytes": re.compile(r"[0-9]{1,4}(KB|MB)"),
    "stdout_logfile_backups": re.compile(r"[0-9]{1,2}"),
    "directory": re.compile(r"/\S*"),
    "environment": re.compile(r"[^%]*"),
}

_UUID: Final = r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}"
_TOKEN: Final = re.compile(r"[!-~]{0,1024}")  # as a header can have it
# What Consul is asked by method: its ACLs, its agent's own token, and the key of its gossip; nothing else of it.
_CONSUL: Final = {
    "GET": re.compile(rf"/v1/acl/(policies|token/self|policy/{_UUID})|/v1/operator/keyring\?local-only=true"),
    "PUT": re.compile(rf"/v1/acl/(bootstrap|token|policy(/{_UUID})?)|/v1/agent/token/agent|/v1/operator/keyring"),
    "POST": re.compile(r"/v1/operator/keyring"),
    "DELETE": re.compile(rf"/v1/acl/token/{_UUID}|/v1/operator/keyring"),
}

_SYSCTLS: Final = re.compile(
    r"(net\.ipv4\.ip_unprivileged_port_start|net\.core\.somaxconn)"
    r" = [0-9]{1,6}"
)


def check_dc(dc: str) -> None:
    """Raise CommandError unless this can name a datacenter."""
    if not _DC.fullmatch(dc) or dc in ("log", "keys", "var"):
        raise CommandError(f"{dc!r} can't name a datacenter")


def check_release_id(id_: str) -> None:
    """Raise CommandError unless this can be a release's id."""
    if not _RELEASE_ID.fullmatch(id_):
        raise CommandError(f"{id_!r} is no release's id", hint="VERSION-DIGEST, such as 0.2.0-0123456789ab")


def check_instance(instance: str) -> None:
    """Raise CommandError unless this can be an instance's name."""
    if not _INSTANCE.fullmatch(instance):
        raise CommandError(f"{instance!r} is no instance's name", hint="such as collector-1")


def role_of(instance: str) -> str:
    """The role of an instance, by its name."""
    return instance.rpartition("-")[0]


def is_wheel(name: str) -> bool:
    """Whether a file of a release may be called so (the binary distribution format: no slash, no leading dot)."""
    return len(name) <= 200 and not name.startswith(".") and _WHEEL.fullmatch(name) is not None


def secret_place(dc: str, role: str, name: str) -> str:
    """Where a secret goes. Raises CommandError when it is nobody's that a host has."""
    if user_of(role) not in USERS:
        raise CommandError(f"{role!r} is no role")
    if not _SECRET_NAME.fullmatch(name):
        raise CommandError(f"{name!r} can't name a secret")
    return f"{KEYS}/{dc}/{role}/{name}"


def check_consul_request(request: Request) -> None:
    """Raise CommandError unless a host's Consul may be asked this."""
    if not _CONSUL[request.method].fullmatch(request.path):
        raise CommandError(f"Consul isn't asked {request.method} {request.path[:100]!r} here")
    if not _TOKEN.fullmatch(request.token):
        raise CommandError("a token of Consul's is one word")
    if len(msgspec.json.encode(request.body)) > MAX_CONSUL_BODY_BYTES:
        raise CommandError(f"Consul is told at most {MAX_CONSUL_BODY_BYTES} bytes at once")


def check_file(file: File, dc: str) -> None:
    """Raise CommandError unless a deploy of this datacenter may write this file. An empty text removes it."""
    if file.owner not in ("root", *USERS):
        raise CommandError(f"{file.path}: {file.owner!r} is no user of hitmesh's")
    if file.mode not in MODES:
        raise CommandError(f"{file.path}: mode {file.mode:04o} isn't one of a file of ours")
    if "\0" in file.text or len(file.text.encode()) > MAX_TEXT_BYTES:
        raise CommandError(f"{file.path}: is no text, or too long")
    found = re.fullmatch(rf"{PROGRAMS}/{re.escape(dc)}-([a-z]+-[0-9]+)\.conf", file.path)
    if found:
        check_instance(found[1])
        _check_owner(file)
        if file.text:
            check_program(file.text, dc, found[1])
    elif file.path == KEEPALIVED_CONF:
        _check_owner(file)
        _check_keepalived(file)
    elif file.path == FIREWALL_CONF:
        _check_owner(file)
        check_firewall(file.text)
    elif file.path == SYSCTL_CONF:
        _check_owner(file)
        _check_lines(file, _SYSCTLS)
    elif file.path == CONSUL_CONF:
        _check_json(file)
    elif file.path not in (config_path(dc), f"{KEYS}/allowed"):
        raise CommandError(f"{file.path}: isn't a file that a deploy writes")


def is_written(path: str, dc: str) -> bool:
    """Whether a deploy of this datacenter writes files there: what `read` shows."""
    fixed = (FIREWALL_CONF, KEEPALIVED_CONF, SYSCTL_CONF, CONSUL_CONF, config_path(dc), f"{KEYS}/allowed")
    return path in fixed or re.fullmatch(rf"{PROGRAMS}/{re.escape(dc)}-[a-z]+-[0-9]+\.conf", path) is not None


def check_program(text: str, dc: str, instance: str) -> None:
    """Raise CommandError unless supervisord may run this as the program of an instance.

    supervisord is root: a program's user, and the log that it writes to, decide what the program can do. Its
    command may be anything, as it runs without rights.
    """
    from hitmesh.deploy.render.keepalived import KEEPALIVED, keepalived_program

    if instance == KEEPALIVED:  # root's, and as it is rendered
        if text != keepalived_program(dc):
            raise _of(instance, "isn't as it is rendered, and it runs as root")
        return
    values = program_values(text, f"{dc}-{instance}")
    if values.get("user") not in USERS:
        raise _of(instance, f"user is {values.get('user')!r}, and no role's")
    if values.get("stdout_logfile") != f"{LOGS}/{dc}-{instance}.log":
        raise _of(instance, "stdout_logfile isn't this program's log")
    try:
        words = shlex.split(values.get("command", ""))
    except ValueError as error:
        raise _of(instance, f"command: {error}") from error
    if (
        not words
        or words[0] not in (RUN, f"{SYSTEM}/bin/python", *SERVERS)
        or (words[0] == RUN and words[1:2] != [instance])
    ):
        raise _of(instance, "command starts something else")


def program_values(text: str, full_name: str) -> dict[str, str]:
    """The settings of a program file. Raises CommandError for anything that isn't one section of known settings."""
    values: dict[str, str] = {}
    if not text.replace("\n", "").isprintable():
        raise _of(full_name, "has a character that isn't printable")
    lines = [line for line in text.split("\n") if line.strip() and not line.startswith((";", "#"))]
    if not lines or lines[0].strip() != f"[program:{full_name}]":
        raise _of(full_name, f"doesn't begin with [program:{full_name}]")
    for line in lines[1:]:
        found = _LINE.fullmatch(re.split(r"\s[;#]", line)[0].rstrip())
        if found is None:
            raise _of(full_name, f"has a line that isn't a setting: {line[:60]!r}")
        key, value = found["key"], found["value"]
        if key in values:
            raise _of(full_name, f"says {key} twice")
        if "%" in value:  # supervisord would put something in its place
            raise _of(full_name, f"has a % in {key}")
        if key in _PLAIN and not _PLAIN[key].fullmatch(value):
            raise _of(full_name, f"{key} can't be {value!r}")
        if key not in _PLAIN and key not in ("command", "user", "stdout_logfile"):
            raise _of(full_name, f"has {key!r}, which no program of ours has")
        values[key] = value
    return values


def check_firewall(text: str) -> None:
    """Raise CommandError unless these are rules as they are rendered, which leave ssh and what is open alone."""
    from hitmesh.deploy.render.nftables import FOOT, HEAD, is_rule

    if not text:
        return
    if not text.startswith(HEAD) or not text.endswith(FOOT):
        raise CommandError(f"{FIREWALL_CONF}: isn't the table of hitmesh with its first rules")
    for line in text[len(HEAD) : -len(FOOT)].split("\n"):
        if line and not is_rule(line):
            raise CommandError(f"{FIREWALL_CONF}: has a rule that is never rendered: {line[:80]!r}")


def _check_keepalived(file: File) -> None:
    from hitmesh.deploy.render.keepalived import is_rendered

    if file.text and not is_rendered(file.text):
        raise CommandError(f"{file.path}: isn't as it is rendered, and what it names runs as root")


def _check_owner(file: File) -> None:
    if file.owner != "root":
        raise CommandError(f"{file.path}: must be root's, whose programs read it")


def _check_lines(file: File, pattern: re.Pattern[str]) -> None:
    for line in file.text.split("\n"):
        if line and not line.startswith("#") and not pattern.fullmatch(line):
            raise CommandError(f"{file.path}: has a line that is never rendered: {line[:80]!r}")


def _check_json(file: File) -> None:
    try:
        msgspec.json.decode(file.text, type=Mapping[str, object])
    except msgspec.MsgspecError as error:
        raise CommandError(f"{file.path}: is no JSON: {error}") from error


def _of(name: str, wrong: str) -> CommandError:
    return CommandError(f"program {name}: {wrong}")

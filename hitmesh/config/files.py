"""From a TOML file to a checked configuration, and back to TOML.

Every mistake is a ConfigError that names the file, the key, and the nearest right one.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec

from hitmesh.config.alerts import Alerts
from hitmesh.config.checks import contradictions
from hitmesh.config.datacenter import Config
from hitmesh.config.routes import Route, Static, normal_routes
from hitmesh.config.sections import Node
from hitmesh.errors import ConfigError
from hitmesh.mistakes import mistakes


def load(path: Path) -> Config:
    """Read and check one datacenter's file, as `loads` does. Raises ConfigError."""
    try:
        text = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{path}: can't be read: {error.strerror}") from error
    return loads(text, path=path)


def loads(text: bytes, *, path: Path) -> Config:
    """Check the text of one datacenter's file, which was read from `path`. Raises ConfigError.

    The files that it names (keys, certificates, static answers, secrets, the scaler's hook) are relative to its folder;
    what is returned names them in full.
    """
    try:
        data = tomllib.loads(text.decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not TOML: {error}") from error
    return _with_files_below(parse(data, source=str(path)), path.resolve().parent)


def parse(data: dict[str, Any], *, source: str) -> Config:
    """Check the tables of a file; `source` is the file's name for errors."""
    try:
        config = msgspec.convert(data, Config)
    except msgspec.ValidationError as error:
        problem = next(mistakes(data, Config), str(error))
        raise ConfigError(f"{source}: {problem}") from error
    try:
        config = msgspec.structs.replace(config, routes=normal_routes(config.routes))
    except ValueError as error:
        raise ConfigError(f"{source}: {error}") from error
    for problem in contradictions(config):
        raise ConfigError(f"{source}: {problem}")
    return config


def check_partitions(configs: Iterable[Config]) -> None:
    """Raise ConfigError when datacenters of one mesh don't have the same number of partitions."""
    first, *others = configs
    for other in others:
        if other.partitions != first.partitions:
            raise ConfigError(
                f"partitions is {first.partitions} in {first.name} and {other.partitions} in {other.name}; "
                "it must be the same in every datacenter"
            )


def dump(config: Config) -> str:
    """The TOML text of a configuration, which `load` reads back to an equal one.

    What is at its default is left out, so that an older release, which may not know it yet, reads the file.
    """
    tables, defaults = msgspec.to_builtins((config, Config(name="", nodes={})))
    node = msgspec.to_builtins(Node(address=""))
    defaults["nodes"] = dict.fromkeys(tables["nodes"], node)
    return "\n".join(_lines("", _beyond(tables, defaults))) + "\n"


def why_not_run(program: str) -> str:
    """Why a program that a file names can't be run here, behind its name; empty where it can."""
    path = Path(program)
    if not path.is_file():
        return "isn't a file" if path.exists() else "isn't there"
    return "" if os.access(path, os.X_OK) else "can't be executed; chmod +x it"


def _with_files_below(config: Config, folder: Path) -> Config:
    tls = config.balancer.tls
    certificates = tuple(str(folder / file) for file in tls.certificates)
    routes: dict[str, Route] = {
        pattern: msgspec.structs.replace(route, file=str(folder / route.file))
        if isinstance(route, Static) and route.file
        else route
        for pattern, route in config.routes.items()
    }
    balancer = msgspec.structs.replace(config.balancer, tls=msgspec.structs.replace(tls, certificates=certificates))
    keys = str(folder / config.keys) if config.keys else ""
    alerts = _alerts_below(config.alerts, folder)
    file = config.recorder.postgresql_password_file
    recorder = msgspec.structs.replace(config.recorder, postgresql_password_file=str(folder / file) if file else "")
    scaler = config.scaler
    if scaler.hook:
        scaler = msgspec.structs.replace(scaler, hook=str(folder / scaler.hook))
    return msgspec.structs.replace(
        config, balancer=balancer, routes=routes, keys=keys, alerts=alerts, recorder=recorder, scaler=scaler
    )


def _alerts_below(alerts: Alerts, folder: Path) -> Alerts:
    def full(file: str) -> str:
        return str(folder / file) if file else ""

    webhooks = tuple(
        msgspec.structs.replace(each, url_file=full(each.url_file), token_file=full(each.token_file))
        for each in alerts.webhook
    )
    mail = msgspec.structs.replace(alerts.mail, password_file=full(alerts.mail.password_file))
    return msgspec.structs.replace(alerts, webhook=webhooks, mail=mail)


def _beyond(table: dict[str, Any], defaults: dict[str, Any]) -> dict[str, Any]:
    """What of a table isn't at its default."""
    return {
        key: _beyond(value, defaults[key]) if isinstance(value, dict) and isinstance(defaults.get(key), dict) else value
        for key, value in table.items()
        if key not in defaults or value != defaults[key]
    }


def _lines(title: str, table: dict[str, Any]) -> list[str]:
    """A table's settings, then the tables in it, each under its full title."""
    lines = [f"{key} = {_toml(value)}" for key, value in table.items() if not isinstance(value, dict)]
    if title and lines:
        lines = ["", f"[{title}]", *lines]
    for key, value in table.items():
        if isinstance(value, dict):
            name = key if key.replace("-", "").replace("_", "").isalnum() and key.isascii() else _toml(key)
            lines += _lines(f"{title}.{name}" if title else name, value)
    return lines


def _toml(value: object) -> str:
    if isinstance(value, dict):
        return f"{{{', '.join(f'{key} = {_toml(each)}' for key, each in value.items())}}}"
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(_toml, value))}]"
    # JSON's strings, numbers and booleans are TOML's too, but for one character.
    return msgspec.json.encode(value).decode().replace("\x7f", "\\u007f")

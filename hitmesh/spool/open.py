"""Spools by URL: what `stores.spools` of a configuration names.

Owns the URLs' grammar. A third party's scheme is an entry point of the group `hitmesh.spools`,
named like the scheme: a callable (url, config, base) that returns a Spool.
"""

from __future__ import annotations

import contextlib
import difflib
import re
import socket
from importlib.metadata import entry_points
from pathlib import Path
from typing import Final
from urllib.parse import SplitResult, unquote, urlsplit

from hitmesh.config import Config
from hitmesh.errors import ConfigError
from hitmesh.spool import Spool
from hitmesh.spool.beanstalk import BeanstalkSpool
from hitmesh.spool.pair import PairSpool
from hitmesh.spool.sqlite import SqliteSpool

GROUP: Final = "hitmesh.spools"
_TUBE: Final = re.compile(r"[A-Za-z0-9+/;.$_()][A-Za-z0-9+/;.$_()-]{0,199}")  # beanstalkd's protocol.txt, "Tubes"
_SQLITE_FORM: Final = "sqlite:///PATH (below the state folder) or sqlite:////ABSOLUTE/PATH"
_BEANSTALK_FORM: Final = "beanstalk://HOST:PORT/TUBE"


def open_spool(config: Config, base: Path) -> Spool:
    """The spool that `config.stores` names: one, or several as a pair. Raises ConfigError.

    Relative SQLite paths are below `base`. Nothing is connected or created before the first call.
    """
    spools = [_open_one(url, config, base) for url in config.stores.spools]
    if len(spools) == 1:
        return spools[0]
    return PairSpool(spools, required=config.stores.spool_copies)


def is_same(one: str, one_base: Path, other: str, other_base: Path) -> bool:
    """Whether two URLs, each with the folder that it is relative to, name one place. Raises ConfigError.

    Names of hosts are looked up; one that can't be is the same as itself alone.
    """
    schemes = {_split(one).scheme, _split(other).scheme}
    if schemes == {"sqlite"}:
        files = sqlite_path(one, one_base), sqlite_path(other, other_base)
        with contextlib.suppress(OSError):
            return files[0].samefile(files[1])
        return files[0].resolve() == files[1].resolve()
    if schemes == {"beanstalk"}:
        (host, *rest), (other_host, *other_rest) = beanstalk_address(one), beanstalk_address(other)
        return rest == other_rest and bool(_addresses(host) & _addresses(other_host))
    return one == other


def _addresses(host: str) -> set[str]:
    with contextlib.suppress(OSError):
        return {host, *(str(found[4][0]) for found in socket.getaddrinfo(host, None))}
    return {host}


def _split(url: str) -> SplitResult:
    try:
        return urlsplit(url)
    except ValueError as error:  # such as brackets that aren't closed
        raise ConfigError(f"stores.spools: {url!r} is no URL: {error}") from error


def _open_one(url: str, config: Config, base: Path) -> Spool:
    scheme = _split(url).scheme
    if scheme == "sqlite":
        return SqliteSpool(
            sqlite_path(url, base), claim_s=config.timing.claim_s, longest_delay_s=config.timing.retry_delay_s
        )
    if scheme == "beanstalk":
        host, port, tube = beanstalk_address(url)
        return BeanstalkSpool(host, port, tube, claim_s=config.timing.claim_s)
    known = entry_points(group=GROUP)
    if scheme in known.names:
        spool: Spool = known[scheme].load()(url, config, base)
        return spool
    schemes = ["sqlite", "beanstalk", *sorted(known.names)]
    near = difflib.get_close_matches(scheme, schemes, n=1)
    hint = f"did you mean {near[0]}://?" if near else "known are " + ", ".join(f"{name}://" for name in schemes)
    raise ConfigError(f"stores.spools: {url!r} has an unknown scheme", hint=hint)


def sqlite_path(url: str, base: Path) -> Path:
    """The file of a sqlite URL: three slashes and a path below `base`, or four and an absolute one."""
    parts = _split(url)
    path = unquote(parts.path[1:])
    if parts.netloc or not path or path.endswith("/") or parts.query or parts.fragment:
        raise ConfigError(f"stores.spools: {url!r} names no file", hint=f"write {_SQLITE_FORM}")
    return base / path


def beanstalk_address(url: str) -> tuple[str, int, str]:
    """Host, port and tube of a beanstalk URL."""
    parts = _split(url)
    tube = parts.path[1:]
    try:
        port = parts.port
    except ValueError:
        port = None
    if not parts.hostname or not port or not _TUBE.fullmatch(tube) or parts.username or parts.query or parts.fragment:
        raise ConfigError(f"stores.spools: {url!r} names no server and tube", hint=f"write {_BEANSTALK_FORM}")
    return parts.hostname, port, tube

"""The keys of a test's mesh, made by what makes everybody's."""

from __future__ import annotations

from pathlib import Path

import msgspec

from hitmesh.cli import keyfolder
from hitmesh.config import Config
from hitmesh.mesh.keyring import Keyring, open_keyring
from hitmesh.state.keylist import Peer


def with_keys(config: Config, folder: Path) -> Config:
    """The configuration, with keys for everybody in it in `folder`."""
    keyfolder.make_missing(folder, keyfolder.peers_of(config))
    return msgspec.structs.replace(config, keys=str(folder))


def key_for(config: Config, role: str, name: str) -> Keyring | None:
    """Somebody's keys, made if need be; None in a mesh without."""
    if config.keys:
        keyfolder.make_missing(Path(config.keys), [Peer(config.name, role, name)])
    return open_keyring(config, role, name)

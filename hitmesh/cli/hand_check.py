"""Whether a drain or a weight that is set as a live setting is of somebody who is there: as `hitmesh drain` looks.

Apart from `hitmesh.cli.config`, whose other settings are of nobody in particular.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from hitmesh.cli import picture
from hitmesh.cli.config import Place, routes_of
from hitmesh.cli.datacenter import Mesh
from hitmesh.config.hands import WEIGHTS, Hands, place_of
from hitmesh.errors import CommandError
from hitmesh.mistakes import nearest
from hitmesh.settings import Edition
from hitmesh.state.handling import check_drain, check_weight, known


def check_hand(
    key: str, place: Place, editions: Mapping[str, Edition], config_path: Path | None, state_dir: Path
) -> None:
    """Raise CommandError for a datacenter or a name that nobody has; of a datacenter elsewhere only itself is looked for."""
    dc, name = place_of(key)
    config = next((each for each in place.configs if each.name == dc), None)
    if config is None:
        names = sorted(Mesh(config_path, state_dir).names())
        if dc not in names:
            raise CommandError(f"{key}: there is no datacenter {dc}", hint=nearest(dc, names))
        return
    answer = picture.ask(config)
    living = None if answer is None else [seen.instance for seen in answer.seen if seen.alive]
    everybody = known(config, living, routes_of(config, editions))
    if key.startswith(WEIGHTS):
        check_weight(name, everybody)
    else:
        check_drain(name, everybody, Hands(), force=True)

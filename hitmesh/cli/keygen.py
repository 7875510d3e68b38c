"""`hitmesh keygen`: the keys of a mesh, and the list that says whose they are."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import click
import msgspec

from hitmesh.cli import check_config, folder, keyfolder
from hitmesh.config import Config, check_partitions

TEMPLATE = "config/dev.toml"


@click.command(short_help="Make a mesh's keys, and the list of them.")
@click.argument("directory", metavar="DIR", type=click.Path(file_okay=False, path_type=Path))
@click.option(
    "--config",
    "files",
    multiple=True,
    type=click.Path(path_type=Path),
    metavar="FILE",
    help=f"A datacenter's configuration; once for each.  [default: {TEMPLATE} for each of --dcs]",
)
@click.option("--dcs", default="eu-west,us-west", show_default=True, metavar="NAMES", help="The datacenters.")
def keygen(directory: Path, files: tuple[Path, ...], dcs: str) -> None:
    """Make a key for every instance and operator of a mesh, in DIR, and the list that says whose they are.

    Who has a key already keeps it: with more instances, or another datacenter, the same command makes what is
    missing. DIR/allowed is the list, which every host needs; DIR/DATACENTER/ROLE/NAME are the secret keys, each
    of which only the host needs where that instance runs. `keys = "DIR"` in a configuration names the folder.

    \b
    Example:
      hitmesh keygen keys --config config/us-west.toml --config config/eu-west.toml
    """
    configs = [check_config.load(file) for file in files] or _as_up_has_them(dcs)
    check_partitions(configs)
    everybody = [peer for config in configs for peer in keyfolder.peers_of(config)]
    made = keyfolder.make_missing(directory, everybody, is_shared=True)
    counts = Counter(peer.dc for peer in made)
    for config in configs:
        print(f"{config.name}: {counts[config.name]} new keys of {len(keyfolder.peers_of(config))}")
    print(f"the list: {directory / 'allowed'}")


def _as_up_has_them(dcs: str) -> list[Config]:
    template = check_config.load(folder.shipped(TEMPLATE))
    return [msgspec.structs.replace(template, name=name.strip()) for name in dcs.split(",")]

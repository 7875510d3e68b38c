"""Options that several commands share. Imported by the roles too: nothing else may be imported here."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

STATE_DIR = Path("var")
CONFIG_NAME = "hitmesh.toml"  # of a datacenter, in its folder below the state folder
CONF_NAME = "supervisord.conf"  # which every state folder has


def state_folder(context: click.Context, parameter: click.Parameter, value: Path) -> Path:
    """A state folder in full, wherever the command, or what it starts, may go.

    Unless one is said, it is the one that `hitmesh up` has written the datacenter's file into: a role that is started by hand
    would have other files than those that it works with.
    """
    config = context.params.get("config_path") or context.params.get("file")
    is_said = context.get_parameter_source(parameter.name or "") is not ParameterSource.DEFAULT
    if not is_said and isinstance(config, Path) and config.name == CONFIG_NAME:
        folder = config.absolute().parents[1]
        if (folder / CONF_NAME).is_file():
            return folder.resolve()
    return value.resolve()


class Seconds(click.FloatRange):
    """A time, which has an end."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        seconds: float = super().convert(value, param, ctx)
        if not math.isfinite(seconds):
            self.fail(f"{value} is no number of seconds", param, ctx)
        return seconds


STATE_DIR_HELP = (
    "The folder that holds everything a mesh writes. Of a file that `hitmesh up` wrote it is the one where that lies."
)
state_dir_option = click.option(
    "--state-dir",
    type=click.Path(file_okay=False, path_type=Path),
    default=STATE_DIR,
    show_default=True,
    callback=state_folder,
    help=STATE_DIR_HELP,
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
watch_option = click.option("-w", "--watch", is_flag=True, help="Show it anew each second, until Ctrl-C.")
config_option = click.option(
    "--config",
    "config_path",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="The file of a deployed datacenter, instead of those in the state folder.",
)

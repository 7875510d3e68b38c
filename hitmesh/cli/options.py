"""Options that several commands share. Imported by the roles too: nothing else may be imported here."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import click

STATE_DIR = Path("var")


def _absolute(_context: click.Context, _parameter: click.Parameter, value: Path) -> Path:
    # Wherever the command, or what it starts, may go.
    return value.resolve()


class Seconds(click.FloatRange):
    """A time, which has an end."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        seconds: float = super().convert(value, param, ctx)
        if not math.isfinite(seconds):
            self.fail(f"{value} is no number of seconds", param, ctx)
        return seconds


state_dir_option = click.option(
    "--state-dir",
    type=click.Path(file_okay=False, path_type=Path),
    default=STATE_DIR,
    show_default=True,
    callback=_absolute,
    help="The folder that holds everything a mesh writes.",
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

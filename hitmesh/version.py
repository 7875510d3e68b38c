"""`--version` of every program: its release, and whether its hot modules are compiled."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from hitmesh import __version__, compiled

Function = TypeVar("Function", bound=Callable[..., Any])


def version_option(program: str) -> Callable[[Function], Function]:
    """The option of a program's command."""

    def say(context: click.Context, _parameter: click.Parameter, value: bool) -> None:
        if value and not context.resilient_parsing:
            click.echo(f"{program}, version {__version__} ({compiled.in_words()})")
            context.exit()

    return click.option(
        "--version", is_flag=True, expose_value=False, is_eager=True, callback=say, help="Show the version and exit."
    )

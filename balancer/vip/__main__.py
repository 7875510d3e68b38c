"""`python -m balancer.vip`: the check that tells keepalived whether this host should have the virtual IP."""

import sys
from pathlib import Path

import click

from balancer.vip.check import run
from hitmesh.lines import Speaker
from hitmesh.logs import log_to_stderr
from hitmesh.startup import prepare

_PATH = click.Path(path_type=Path, dir_okay=False)


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--said", type=_PATH, required=True, help="What the balancer says of itself: STATE-DIR/DC/NAME.vip.")
@click.option("--track", type=_PATH, required=True, help="The file that keepalived tracks.")
@click.option("--address", required=True, help="The virtual IP, without its prefix length.")
@click.option("--preempt", is_flag=True, help="Whoever has the address doesn't keep it when a better host returns.")
def main(*, said: Path, track: Path, address: str, preempt: bool) -> None:
    """Tell keepalived, as long as this runs, whether the balancer beside it should have the virtual IP."""
    log_to_stderr(Speaker(said.parent.name, "vip", said.stem))
    run(said=said, track=track, address=address, is_sticky=not preempt)


if __name__ == "__main__":
    prepare()
    sys.exit(main())

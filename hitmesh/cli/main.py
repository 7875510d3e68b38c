"""The `hitmesh` command: which subcommands there are, and how a failure is told.

A command's module is imported only when it is run, so that `--help` is quick and a role's
process holds nothing of the others. Exit status: 0 done, 1 failed, 2 used wrongly; an error is
one line on stderr.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence

import click

from hitmesh import output
from hitmesh.cli.stderr import warn
from hitmesh.errors import HitmeshError
from hitmesh.version import version_option

FAILED, MISUSED, INTERRUPTED = 1, 2, 130  # 130: what a shell says of a command ended by Ctrl-C

# The module that holds each command, under its name with "-" as "_", and what it does.
COMMANDS = {
    "up": ("up", "Run a whole mesh on this machine under supervisord."),
    "down": ("down", "Drain and stop it."),
    "scale": ("scale", "Run more or fewer instances of a role."),
    "endpoints": ("endpoints", "Show where the roles of a mesh listen."),
    "status": ("status", "Show every instance: state, pid, uptime, heartbeat, load."),
    "ready": ("ready", "Say what isn't ready; status 1 unless all is."),
    "total": ("totals", "Show the total of a page."),
    "top": ("totals", "Show the pages with the highest totals."),
    "export": ("export", "Write every page's total as CSV or JSON lines."),
    "audit": ("auditing", "Compare the books: accepted, committed, spooled, in flight."),
    "trace": ("trace", "Follow a hit from collector to commit, in every datacenter."),
    "logs": ("logs", "Show what the roles logged, of all hosts."),
    "drain": ("hands", "Give an instance or backend no new work."),
    "undrain": ("hands", "Let a drained one work again."),
    "weight": ("hands", "Set the share of requests that a backend gets."),
    "pause": ("pause", "Let a route answer a maintenance text, or wait, for a while."),
    "resume": ("pause", "End a pause."),
    "spool": ("spool", "Look into the spools, and put their jobs right."),
    "datacenter": ("datacenter", "Show the datacenters, and retire one that is gone for good."),
    "formats": ("formats", "Show which formats are written, and write those of a new release."),
    "config": ("config", "Show and change settings while the mesh runs."),
    "alerts": ("alerts", "Show alerts, silence them, and try how they are sent."),
    "replay": ("replay", "Send an access log's requests as hits."),
    "backup": ("backup", "Write totals, settings and routes into one file."),
    "restore": ("restore", "Bring a backup back into an empty mesh."),
    "drill": ("drill", "Try a backup: restore it into a mesh of its own, and compare."),
    "check-config": ("check_config", "Check a datacenter's configuration file."),
    "keygen": ("keygen", "Make a mesh's keys, and the list of them."),
    "keys": ("keys", "Show, add, revoke and change keys."),
    "collector": ("roles", "Run one collector in the foreground."),
    "processor": ("roles", "Run one processor in the foreground."),
    "dashboard": ("roles", "Run one dashboard in the foreground."),
    "recorder": ("roles", "Run one recorder in the foreground."),
    "scaler": ("roles", "Run one scaler in the foreground."),
}


class _Commands(click.Group):
    """Commands that are imported when they are asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"hitmesh.cli.{COMMANDS[cmd_name][0]}")
        command: click.Command = getattr(module, cmd_name.replace("-", "_"))
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, words) for name, (_, words) in COMMANDS.items()])


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@version_option("hitmesh")
def hitmesh() -> None:
    """Count page hits of web sites served from several datacenters, each exactly once.

    \b
    Example:
      hitmesh up -d                             # a mesh of two datacenters on this machine
      curl -X POST http://127.0.0.1:8000/hit/example.com/front
      hitmesh total example.com/front
      hitmesh down
    """


def run(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; the exit status. A failure that was foreseen is told in one line."""
    try:
        status = hitmesh.main(args=arguments, prog_name="hitmesh", standalone_mode=False)
        sys.stdout.flush()
    except click.exceptions.NoArgsIsHelpError as error:
        print(error.format_message(), file=sys.stderr)
        return MISUSED
    except click.UsageError as error:
        path = error.ctx.command_path if error.ctx else "hitmesh"
        return _told(f"{_one_line(error.format_message())} (see {path} --help)", MISUSED)
    except click.ClickException as error:
        return _told(_one_line(error.format_message()), FAILED)
    except HitmeshError as error:
        return _told(_one_line(str(error)), FAILED)
    except (click.Abort, KeyboardInterrupt):
        return _told("interrupted", INTERRUPTED)
    except OSError as error:
        if output.is_unwritten(error):
            said = output.give_up(error)
            return _told(said, FAILED) if said else FAILED  # whoever read it may go away, as `head` does
        # Foreseen ones are told where they happen: this is a folder's that isn't as it should be.
        return _told(_one_line(f"{error.filename or 'failed'}: {error.strerror or error}"), FAILED)
    return status if isinstance(status, int) else 0


def _told(message: str, status: int) -> int:
    warn(message)
    return status


def _one_line(text: str) -> str:
    return " ".join(text.split())

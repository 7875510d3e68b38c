"""The files of a host that are root's, and that only a bootstrap writes: its programs, who may run them, how it boots.

Pure. Everything here is run as root, so none of it comes through the host program.
"""

from __future__ import annotations

from typing import Final

from hitmesh.deploy.fleet import SEES
from hitmesh.deploy.paths import (
    CURRENT,
    FIREWALL_CONF,
    HOST_PROGRAM,
    LOGS,
    RUN,
    STARTED_WITH,
    SUPERVISOR_CONF,
    SYSCTL_CONF,
    SYSTEM,
)
from hitmesh.deploy.render.supervisor import supervisord_conf

BOOT: Final = f"{SYSTEM}/bin/hitmesh-boot"
UNIT: Final = "/etc/systemd/system/hitmesh.service"
INIT_SCRIPT: Final = "/etc/init.d/hitmesh"
SUDOERS: Final = "/etc/sudoers.d/hitmesh"
PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
OPEN_FILES: Final = 65_536
PROGRAM_MODE: Final = 0o755
FILE_MODE: Final = 0o644

_RUN = f"""\
#!/bin/sh
# hitmesh-run INSTANCE ARGUMENTS: python with these, of the release that this instance has now. From the release's own
# path, so that a process never imports from two of them.
set -eu
instance=$1
shift
release=$(readlink -e "{CURRENT}/$instance") || {{
    echo "hitmesh-run: $instance has no release: fab deploy gives it one" >&2
    exit 1
}}
# What it was started with, of the datacenter's file: a deploy restarts whom another file concerns.
echo "${{{SEES}:-}}" >"$HOME/{STARTED_WITH}"
exec "$release/bin/python" "$@"
"""

# -I: nothing of the caller's environment or folder is imported. `env -i`: nor is anything else of his believed.
_HOST = f"""\
#!/bin/sh
# What the deploy user may run as root (hitmesh.deploy.host).
exec env -i PATH={PATH} LANG=C.UTF-8 TERM="${{TERM:-dumb}}" {SYSTEM}/bin/python -I -m hitmesh.deploy.host "$@"
"""

_BOOT = f"""\
#!/bin/sh
# hitmesh-boot          the kernel's settings, the firewall, and then supervisord, in the foreground
# hitmesh-boot start    the same in the background: for a host without systemd, also as {INIT_SCRIPT}
# hitmesh-boot stop     stop supervisord, and with it all programs
set -eu
case ${{1:-run}} in
start)
    setsid "$0" run </dev/null >>{LOGS}/boot.log 2>&1 &
    exit 0
    ;;
stop) exec {SYSTEM}/bin/python -I -m supervisor.supervisorctl -c {SUPERVISOR_CONF} shutdown ;;
run) ;;
*)
    echo "hitmesh-boot [start|stop]" >&2
    exit 2
    ;;
esac
if [ -f {SYSCTL_CONF} ]; then sysctl -q -p {SYSCTL_CONF} || true; fi
if [ -f {FIREWALL_CONF} ]; then nft -f {FIREWALL_CONF} || true; fi
# A balancer takes 20,000 connections, with as many to its backends; a host may not allow it.
ulimit -n {OPEN_FILES} 2>/dev/null || ulimit -n "$(ulimit -H -n)"
cd /
exec env -i PATH={PATH} LANG=C.UTF-8 "$(readlink -e {SYSTEM})/bin/python" -I -m hitmesh.cli.supervisord -c {SUPERVISOR_CONF}
"""

_UNIT = f"""\
[Unit]
Description=hitmesh: supervisord and the roles of this host
Wants=network-online.target
After=network-online.target

[Service]
ExecStart={BOOT}
Restart=always
RestartSec=1
KillMode=mixed
TimeoutStopSec=120
LimitNOFILE={OPEN_FILES}

[Install]
WantedBy=multi-user.target
"""

_INIT_SCRIPT = f"""\
#!/bin/sh
### BEGIN INIT INFO
# Provides:          hitmesh
# Required-Start:    $network $remote_fs
# Required-Stop:     $network $remote_fs
# Default-Start:     2 3 4 5
# Default-Stop:      0 1 6
# Short-Description: supervisord and the roles of this host
### END INIT INFO
case ${{1:-}} in
start | stop) exec {BOOT} "$1" ;;
restart | force-reload) {BOOT} stop; exec {BOOT} start ;;
*) echo "hitmesh start|stop|restart" >&2; exit 2 ;;
esac
"""


def files(deploy_user: str) -> list[tuple[str, str, int]]:
    """Path, text and mode of each."""
    return [
        (RUN, _RUN, PROGRAM_MODE),
        (HOST_PROGRAM, _HOST, PROGRAM_MODE),
        (BOOT, _BOOT, PROGRAM_MODE),
        (SUPERVISOR_CONF, supervisord_conf(deploy_user), FILE_MODE),
        (INIT_SCRIPT, _INIT_SCRIPT, PROGRAM_MODE),  # whichever of the two this host boots with
        (UNIT, _UNIT, FILE_MODE),
    ]


def sudo_rule(deploy_user: str) -> str:
    """All that the deploy user may do."""
    return f"{deploy_user} ALL=(root) NOPASSWD: {HOST_PROGRAM}\n"

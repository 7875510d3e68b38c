"""keepalived's configuration on a balancer's host, and the programs that run it and its check. Pure.

Who should have the address is said by the check (`balancer.vip.judging`), as a number that is added to the host's
priority. Two things follow. There is no `nopreempt`: with it a master would keep the address however low its
priority fell; that a host which comes back doesn't take it again is the check's doing, by more for who has it. And
priorities are close together: the check's numbers must outweigh them.

keepalived is root, and its configuration can name programs that it runs. So the host program takes only what
`is_rendered`, whoever brings it.
"""

from __future__ import annotations

import hashlib
import re
from string import Template
from typing import Final

from hitmesh.config import Placement
from hitmesh.config.addresses import interface
from hitmesh.deploy.files import File
from hitmesh.deploy.fleet import Fleet, Host
from hitmesh.deploy.paths import KEEPALIVED_CONF, LOGS, PROGRAMS, SYSTEM, state_folder, user_of

KEEPALIVED: Final = "keepalived-1"
CHECK: Final = "vip-1"
"""The programs' names, as instances'."""
FIRST_PRIORITY: Final = 150  # with what the check adds and takes, all are from 1 to 254
LAST_PRIORITY: Final = 101  # of the fiftieth host and those after it: the higher address counts among these
ROUTER_IDS: Final = 255

_CONF = Template("""\
# $dc, $node: rendered by hitmesh, and written again by each deploy.
global_defs {
    router_id $dc-$node
    vrrp_version 3
    enable_script_security
    vrrp_check_unicast_src
    # Others take 0.3 s of silence for death: what a busy balancer leaves of the CPU mustn't decide that.
    vrrp_rt_priority 10
    vrrp_rlimit_rttime 100000
    # A link that was cut and comes back: who has the address says so again, and again each second.
    vrrp_garp_master_refresh 1
    vrrp_higher_prio_send_advert true
    vrrp_garp_lower_prio_repeat 3
    vrrp_garp_lower_prio_delay 0
}

# What the balancer's check says: a number to add to the priority; below -253 the address is given up.
track_file hitmesh_balancer {
    file "$track"
    weight 1
}

# That the check itself runs: it renews the file's time of change twice a second.
vrrp_script hitmesh_check_runs {
    script "/usr/bin/find $track -mmin +0.05 -exec /bin/false {} +"
    user $user
    interval 1
    timeout 1
    fall 2
    rise 1
    init_fail
}

vrrp_instance $dc {
    state BACKUP
    interface $interface
    virtual_router_id $router
    priority $priority
    advert_int 0.1
$peers    virtual_ipaddress {
        $address dev $interface
    }
    track_file {
        hitmesh_balancer weight 1
    }
    track_script {
        hitmesh_check_runs
    }
}
""")
_PEERS = Template("""\
    unicast_src_ip $own
    unicast_peer {
$others    }
""")
_PROGRAM = Template("""\
[program:$dc-$name]
command = $command
user = $user
priority = $priority
autostart = true
autorestart = true
startsecs = 1
startretries = 1000
stopsignal = TERM
stopwaitsecs = 10
stopasgroup = false
killasgroup = true
redirect_stderr = true
stdout_logfile = $log
stdout_logfile_maxbytes = 10MB
stdout_logfile_backups = 2
""")
# Both start before the balancers and, with supervisord, stop after them, which give the address up themselves.
_PRIORITY: Final = 400

# What can stand in the fields of _CONF: nothing that begins a word or a line of keepalived's own.
_NAME: Final = r"[a-z0-9](?:[a-z0-9-]{0,30}[a-z0-9])?"
_IP: Final = r"[0-9a-f.:]{2,45}"
_FIELDS: Final = {
    "dc": _NAME,
    "node": _NAME,
    "track": rf"{re.escape(state_folder(''))}balancer-[0-9]{{1,4}}/vip\.track",
    "user": re.escape(user_of("balancer")),
    "interface": r"[A-Za-z0-9_.-]{1,15}",
    "router": r"[0-9]{1,3}",
    "priority": r"[0-9]{1,3}",
    "address": rf"{_IP}/[0-9]{{1,3}}",
    "own": _IP,
}


def files(fleet: Fleet, host: Host) -> list[File]:
    """Those of a host; none where it has no balancer behind a virtual IP."""
    behind = {placement.node: placement for placement in fleet.config.behind_virtual_ip()}
    if not fleet.config.virtual_ip.address or host.name not in behind:
        return []
    return [
        File(path=KEEPALIVED_CONF, text=_conf(fleet, host, behind), then="keepalived"),
        _program_file(fleet.dc, KEEPALIVED, keepalived_program(fleet.dc)),
        _program_file(fleet.dc, CHECK, _check_program(fleet, behind[host.name])),
    ]


def keepalived_program(dc: str) -> str:
    """The program of supervisord that runs keepalived, which must be root: the same for all hosts of a datacenter."""
    command = f"/usr/sbin/keepalived --use-file {KEEPALIVED_CONF} --vrrp --dont-fork --log-console"
    return _program(dc, KEEPALIVED, command, "root")


def is_rendered(text: str) -> bool:
    """Whether a configuration is as it is rendered here, but for names, addresses and numbers."""
    return _RENDERED.fullmatch(text) is not None


def router_id(fleet: Fleet) -> int:
    """Of VRRP: as configured, or one that others on the network hardly have too."""
    vip = fleet.config.virtual_ip
    digest = hashlib.sha256(f"{fleet.dc} {interface(vip.address).ip}".encode()).digest()
    return vip.router_id or 1 + int.from_bytes(digest[:8]) % ROUTER_IDS


def _conf(fleet: Fleet, host: Host, behind: dict[str, Placement]) -> str:
    vip = fleet.config.virtual_ip
    others = [other.address for name, other in behind.items() if name != host.name]
    return _CONF.substitute(
        dc=fleet.dc,
        node=host.name,
        track=_track(behind[host.name]),
        user=user_of("balancer"),
        interface=vip.interface,
        router=router_id(fleet),
        priority=max(LAST_PRIORITY, FIRST_PRIORITY - list(behind).index(host.name)),
        peers=_PEERS.substitute(own=host.address, others="".join(f"        {other}\n" for other in others))
        if others
        else "",
        address=interface(vip.address),
    )


def _check_program(fleet: Fleet, balancer: Placement) -> str:
    vip = fleet.config.virtual_ip
    said = f"{state_folder(balancer.name)}/{fleet.dc}/{balancer.name}.vip"
    options = f"--said {said} --track {_track(balancer)} --address {interface(vip.address).ip}"
    command = f"{SYSTEM}/bin/python -P -m balancer.vip {options}{' --preempt' if vip.preempt else ''}"
    return _program(fleet.dc, CHECK, command, user_of("balancer"))


def _track(balancer: Placement) -> str:
    return f"{state_folder(balancer.name)}/vip.track"


def _program(dc: str, name: str, command: str, user: str) -> str:
    log = f"{LOGS}/{dc}-{name}.log"
    return _PROGRAM.substitute(dc=dc, name=name, command=command, user=user, priority=_PRIORITY, log=log)


def _program_file(dc: str, name: str, text: str) -> File:
    return File(path=f"{PROGRAMS}/{dc}-{name}.conf", text=text, then="supervisor")


def _pattern(template: Template, **others: str) -> str:
    fields = {**_FIELDS, **others}
    return re.sub(r"\\\$([a-z]+)", lambda found: f"(?:{fields[found[1]]})", re.escape(template.template))


_RENDERED: Final = re.compile(
    _pattern(_CONF, peers=rf"(?:{_pattern(_PEERS, others=rf'(?:        {_IP}{chr(10)})+')})?")
)

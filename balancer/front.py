"""What an instance is to do, from a datacenter's configuration or from a command line alone.

Owns how the two become one; knows nothing of processes, sockets and requests. Every mistake is a
ConfigError.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from msgspec import Struct

from balancer.process.generation import Plan
from balancer.process.listeners import MOVING, Address, Kind
from balancer.vip.place import VirtualIp
from hitmesh.config import DEFAULT_HOST, Balancer, Config, Log, Proxy, Route, host_port, is_loopback, loads
from hitmesh.config.addresses import interface
from hitmesh.errors import ConfigError

ALONE: Final = "balancer"  # the name of an instance without a configuration
ALONE_DRAIN_S: Final = 8.0  # the default of timing.drain_s
MAX_WORKERS: Final = 64  # as balancer.workers


class Front(Struct, frozen=True, kw_only=True):
    """One instance: where it listens and what it does there."""

    name: str
    config: Config | None  # None when standalone: there is no Nexus and no store
    balancer: Balancer
    routes: Mapping[str, Route]  # by pattern; live ones are not among them
    listen: Mapping[Kind, Address]
    state_dir: Path | None  # absolute; None when standalone
    workers: int
    standalone: bool
    drain_s: float
    vip: VirtualIp | None = None  # None: it has none

    @property
    def log(self) -> Log:
        """How it logs, and what."""
        return self.config.log if self.config is not None else Log()

    def plan(self, text: bytes | None) -> Plan:
        """What its master must know; `text` is the configuration's."""
        return Plan(listen=self.listen, workers=self.workers, drain_s=self.drain_s, text=text, vip=self.vip)


def configured(text: bytes, *, file: Path, name: str | None, state_dir: Path) -> Front:
    """The instance `name`, or the first one, of the configuration `text`, which was read from `file`."""
    config = loads(text, path=file)
    if name is None:
        name = next((placement.name for placement in config.instances("balancer")), "balancer-1")
    placement = config.placement("balancer", name)
    listen: dict[Kind, Address] = {"http": Address(placement.address, placement.port or 0)}
    if placement.tls_port is not None:
        listen["tls"] = Address(placement.address, placement.tls_port)
    if placement.admin_port is not None:
        listen["admin"] = Address(placement.address, placement.admin_port)
        # Checked with the file for the nodes that are to have balancers; this one may run elsewhere.
        if not config.balancer.admin_token and not is_loopback(placement.address):
            raise ConfigError(
                f"{file}: balancer.admin_token is missing: {name}'s address ({placement.address}) is beyond loopback, "
                "where anybody could change routes; or ports.balancer_admin = 0 for no admin listener"
            )
    folder = state_dir.absolute()
    vip = None
    if config.virtual_ip.address and placement in config.behind_virtual_ip():
        address = str(interface(config.virtual_ip.address).ip)
        vip = VirtualIp(address, folder / config.name / f"{name}.vip")
        moving: dict[Kind, Address] = {moved: listen[kind] for moved, kind in MOVING.items() if kind in listen}
        listen |= {kind: Address(address, place.port) for kind, place in moving.items()}
    return Front(
        name=name,
        config=config,
        balancer=config.balancer,
        routes=config.route_table(),
        listen=listen,
        state_dir=folder,
        workers=config.balancer.workers,
        standalone=False,
        drain_s=config.timing.drain_s,
        vip=vip,
    )


def standalone(
    *, listen: str, backends: Sequence[str], admin: str | None = None, workers: int = 1, access_log: str = ""
) -> Front:
    """An instance that passes everything on to `backends`, and needs nothing else of a mesh."""
    if not backends:
        raise ConfigError("--backend: at least one is needed")
    for backend in backends:
        _address("--backend", backend, lowest_port=1)
    if len(set(backends)) < len(backends):
        raise ConfigError("--backend names the same backend twice")
    if not 1 <= workers <= MAX_WORKERS:
        raise ConfigError(f"--workers: {workers} must be between 1 and {MAX_WORKERS}")
    places: dict[Kind, Address] = {"http": _address("--listen", listen)}
    if admin is not None:
        places["admin"] = _address("--admin", admin)
        if not is_loopback(places["admin"].host):
            raise ConfigError(
                f"--admin: {admin} is beyond loopback, which needs a token: say it as balancer.admin_token in a "
                "configuration (--config)"
            )
        if places["admin"] == places["http"] and places["admin"].port:
            raise ConfigError(f"--admin: {admin} is where --listen is")
    if access_log not in ("", "-"):
        access_log = str(Path(access_log).absolute())
    # Nothing is known of what these backends answer to a request for /health, and nobody would tell
    # when one that refuses connections is back: so no request is held.
    route = Proxy(backends=tuple(backends), check_path="", hold=0)
    balancer = Balancer(workers=workers, access_log=access_log)
    return Front(
        name=ALONE,
        config=None,
        balancer=balancer,
        routes={DEFAULT_HOST: route},
        listen=places,
        state_dir=None,
        workers=workers,
        standalone=True,
        drain_s=ALONE_DRAIN_S,
    )


def _address(option: str, text: str, *, lowest_port: int = 0) -> Address:
    try:
        return Address(*host_port(text, lowest_port=lowest_port))
    except ValueError as error:
        raise ConfigError(f"{option}: {text!r} {error}") from error

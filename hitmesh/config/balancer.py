"""The balancer's tables of a datacenter's file. Owns each setting's type, default, unit and help;
knows nothing of how a balancer works. Pure. What it does with a Host is in `routes`.
"""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from hitmesh.config.sections import Section
from hitmesh.http.limits import FIELD_BYTES, FIELDS, HEAD_BYTES, LINE_BYTES
from hitmesh.mistakes import SECRET

_LONGEST_S = 86_400.0  # a day: what waits longer waits forever
_Seconds = Annotated[float, Meta(ge=0.05, le=_LONGEST_S)]
_MAX_HEAD_BYTES = 1024 * 1024  # of one connection, twenty thousand of which are allowed


class BalancerTls(Section, frozen=True):
    """What the HTTPS listener shows, and the admin listener where it speaks TLS too."""

    certificates: Annotated[
        tuple[str, ...],
        Meta(description="PEM files, each with its chain and key; chosen by SNI, the first is the default"),
    ] = ()
    redirect: Annotated[bool, Meta(description="http -> https by 308 for every route")] = False
    admin: Annotated[bool, Meta(description="the admin listener speaks TLS, with the same certificates")] = False


class BalancerLimits(Section, frozen=True):
    """What one client, request or connection may hold, and for how long."""

    line_bytes: Annotated[int, Meta(ge=256, le=_MAX_HEAD_BYTES, description="request line (414)")] = LINE_BYTES
    headers: Annotated[int, Meta(ge=1, le=10_000, description="header lines (431)")] = FIELDS
    header_bytes: Annotated[int, Meta(ge=256, le=_MAX_HEAD_BYTES, description="one header line (431)")] = FIELD_BYTES
    head_bytes: Annotated[int, Meta(ge=1024, le=_MAX_HEAD_BYTES, description="the whole head (431)")] = HEAD_BYTES
    body_bytes: Annotated[int, Meta(ge=0, description="request body (413); 0: no limit")] = 0
    small_body_bytes: Annotated[
        int, Meta(ge=0, le=1024 * 1024, description="of a request's body, read before a backend is chosen")
    ] = 16_384
    head_s: Annotated[_Seconds, Meta(description="to the whole head (408)")] = 10.0
    idle_s: Annotated[_Seconds, Meta(description="keep-alive connection without a request")] = 30.0
    body_s: Annotated[_Seconds, Meta(description="a request's body of which too little comes (408)")] = 10.0
    connect_s: Annotated[_Seconds, Meta(description="to a backend, before the next one is tried (502)")] = 3.0
    first_byte_s: Annotated[_Seconds, Meta(description="to the first byte of a backend's answer (504)")] = 30.0
    between_bytes_s: Annotated[_Seconds, Meta(description="between two pieces of a backend's answer (504)")] = 30.0
    tunnel_s: Annotated[_Seconds, Meta(description="idle upgraded connection")] = 3600.0
    write_s: Annotated[_Seconds, Meta(description="a client that takes too little of its answer")] = 30.0
    least_rate: Annotated[
        int, Meta(ge=0, description="bytes a second that aren't too little, in body_s and write_s; 0: any byte")
    ] = 500
    backend_idle_s: Annotated[_Seconds, Meta(description="idle connection to a backend")] = 30.0
    connections: Annotated[int, Meta(ge=1, description="client connections of a worker")] = 20_000
    client_connections: Annotated[int, Meta(ge=0, description="of one client address; 0: no limit")] = 0
    client_rps: Annotated[int, Meta(ge=0, description="requests a second of one client address (429); 0: no limit")] = 0
    client_burst: Annotated[
        int, Meta(ge=0, description="requests at once before client_rps counts; 0: as many as client_rps")
    ] = 0
    tries: Annotated[int, Meta(ge=1, le=100, description="backends tried before a byte was sent")] = 3


class Balancer(Section, frozen=True):
    """How the balancers of a datacenter meet their clients."""

    workers: Annotated[int, Meta(ge=1, le=64, description="processes of an instance, which share its port")] = 1
    access_log: Annotated[
        str, Meta(description='a file, relative to the state folder; "-": standard output; "": none')
    ] = ""
    trusted: Annotated[
        tuple[str, ...],
        Meta(description="networks whose X-Forwarded-*, Forwarded and X-Request-Id are believed and passed on"),
    ] = ()
    proxy_protocol: Annotated[
        tuple[str, ...],
        Meta(description="networks whose connections start with a PROXY protocol header, v1 or v2; theirs must"),
    ] = ()
    admin_token: Annotated[
        str,
        Meta(
            pattern=r"^[!-~]*\Z",
            description="needed, as Authorization: Bearer, when the admin listener is beyond loopback",
            extra=SECRET,
        ),
    ] = ""
    tls: BalancerTls = BalancerTls()
    limits: BalancerLimits = BalancerLimits()

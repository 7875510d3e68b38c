"""Where Prometheus scrapes a mesh, in the form of its file_sd_configs. Pure.

One group for each instance that tells its metrics, with the labels dc, role and name, which the alert rules and the
Grafana dashboard go by.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from hitmesh.cli import picture
from hitmesh.config import ROLES, Config, Role, host_port_text
from hitmesh.protocol.messages import Answer
from hitmesh.state.standing import program_of

HTTP_TELLS: tuple[Role, ...] = ("dashboard",)  # whose metrics are at their first port


def targets(config: Config, answer: Answer | None) -> list[dict[str, Any]]:
    """The configured instances, whether they run or not, and those that heartbeat from elsewhere."""
    return [_group(config.name, role, name, url) for role in ROLES for name, url in _urls(config, answer, role).items()]


def _urls(config: Config, answer: Answer | None, role: Role) -> dict[str, str]:
    scheme = "https" if role == "balancer" and config.balancer.tls.admin else "http"
    at_first = role in HTTP_TELLS
    found = {}
    for one in config.instances(role):
        port = one.port if at_first else one.admin_port
        if port:
            found[one.name] = f"{scheme}://{host_port_text(one.address, port)}"
    for seen in picture.alive(answer, role):
        url = seen.instance.endpoints.get("http" if at_first else "admin")
        if url:
            found.setdefault(program_of(seen.instance.name), url)  # the workers of a balancer share one
    return found


def _group(dc: str, role: Role, name: str, url: str) -> dict[str, Any]:
    place = urlsplit(url)
    labels = {"dc": dc, "role": role, "name": name}
    if place.scheme != "http":
        labels["__scheme__"] = place.scheme
    return {"targets": [place.netloc], "labels": labels}

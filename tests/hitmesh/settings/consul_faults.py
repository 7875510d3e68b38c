"""Faults of Consul, as reads, changes and watches all meet them, and what one asks of a store meanwhile."""

from __future__ import annotations

from collections.abc import Callable

from hitmesh.settings import SettingsStore
from tests.hitmesh.store.patience import SILENCE
from tests.services.faulty_proxy import Fault

READS: dict[str, Callable[[SettingsStore], object]] = {
    "get": lambda store: store.get("routes/a"),
    "list": lambda store: store.list(),
    "check": lambda store: store.check(),
}
FAULTS = {
    "500": Fault(status=500, body=b"No cluster leader"),
    "500 that looks like a result": Fault(status=500, body=b'{"Results":[],"Errors":null}'),
    "404": Fault(status=404, body=b""),
    "404 with an index and a text": Fault(status=404, body=b"no such page", headers=(("X-Consul-Index", "7"),)),
    "403": Fault(status=403, body=b"Permission denied", headers=(("X-Consul-Index", "7"),)),
    "429": Fault(status=429, body=b"Your IP is issuing too many concurrent connections"),
    "redirect": Fault(status=307, body=b""),
    "200 and no JSON": Fault(status=200, body=b"<html>welcome</html>", headers=(("X-Consul-Index", "7"),)),
    "200 and nothing": Fault(status=200, body=b"", headers=(("X-Consul-Index", "7"),)),
    "200 and no index": Fault(status=200, body=b"[]"),
    "200 and an odd index": Fault(status=200, body=b"[]", headers=(("X-Consul-Index", "-1"),)),
    "200 and half of it": Fault(status=200, body=b'[{"Key":"', headers=(("X-Consul-Index", "7"),)),
    "200 and only brackets": Fault(status=200, body=b"[" * 100_000, headers=(("X-Consul-Index", "7"),)),
    "409": Fault(status=409, body=b'{"Results":null,"Errors":[{"OpIndex":0,"What":"Permission denied"}]}'),
    "filtered": Fault(headers=(("X-Consul-Results-Filtered-By-ACLs", "true"),)),
    "cut connection": Fault(cut=True),
    "no answer in time": SILENCE,
}


def put(store: SettingsStore, key: str = "routes/a", value: str = "1") -> int:
    return store.set(key, value.encode(), author="anna").version

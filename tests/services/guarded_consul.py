"""A Consul that lets nobody do anything without a token, and with `tls` shows itself to known clients alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.balancer.certificates import make_certificate
from tests.services import START_S, wait_for
from tests.services.consul import MASTER_TOKEN, ConsulServer, TlsFiles


class Guarded:
    """One server with ACLs, which has started."""

    def __init__(self, folder: Path, tls: TlsFiles | None = None) -> None:
        self.server = ConsulServer(folder, acl=True, tls=tls)
        self.server.start()
        wait_for(self._is_ready, within_s=START_S, what="Consul's ACLs")

    def _is_ready(self) -> bool:
        return self.ask("PUT", "/v1/acl/token", {})[0] == 200

    def ask(self, method: str, path: str, body: object = None) -> tuple[int, Any]:
        """An answer to whom may do all."""
        connection = self.server.connection()
        try:
            connection.request(method, path, json.dumps(body), {"X-Consul-Token": MASTER_TOKEN})
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read() or b"null") if answer.status == 200 else None
        finally:
            connection.close()

    def policy(self, name: str, rules: str) -> str:
        """A new policy."""
        return str(self.ask("PUT", "/v1/acl/policy", {"Name": name, "Rules": rules})[1]["ID"])

    def token(self, policy: str) -> str:
        """A new token with the rights of a policy."""
        return str(self.ask("PUT", "/v1/acl/token", {"Policies": [{"ID": policy}]})[1]["SecretID"])


class AccessFiles:
    """What an agent that shows itself to known clients alone needs, and what these need; in one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.server = make_certificate(folder, file="consul", extension="subjectAltName=IP:127.0.0.1")
        self.client, self.stranger = (make_certificate(folder, file=name) for name in ("client", "stranger"))
        for path in folder.iterdir():
            path.chmod(0o600)
        crt, key = (self.server.with_suffix(suffix) for suffix in (".crt", ".key"))
        self.tls = TlsFiles(crt, crt, key, self.client)
        self.token = self.secret("token", f"{MASTER_TOKEN}\n")

    def secret(self, name: str, text: str, mode: int = 0o600) -> Path:
        """A file with what only its owner may know."""
        path = self.folder / name
        path.write_text(text)
        path.chmod(mode)
        return path

"""What the operator's machine has a host ask its own Consul, and what that answers. Pure.

`hitmesh-host consul` takes a list of requests, which `host.rules` looks at, and answers with a list of replies.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, Literal

from msgspec import Struct

NO_ACLS: Final = 401  # Consul's, where ACLs aren't enabled
FORBIDDEN: Final = 403
OK: Final = 200
NO_ANSWER: Final = "doesn't answer"  # in what a host says whose Consul is away


class Request(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One request; its token, if any, is given anew with each, and kept nowhere on the host."""

    method: Literal["GET", "PUT", "POST", "DELETE"]
    path: str
    token: str = ""
    body: Any = None  # JSON


class Reply(Struct, frozen=True):
    """Consul's answer."""

    status: int
    body: str

    @property
    def is_unknown_token(self) -> bool:
        """Whether Consul doesn't know the token that it was shown."""
        return self.status == FORBIDDEN and "ACL not found" in self.body


Replies = Sequence[Reply]

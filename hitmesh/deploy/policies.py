"""The policies of Consul's ACLs, as docs/consul has them, for a datacenter's own prefixes."""

from __future__ import annotations

import re

from hitmesh.cli.folder import shipped
from hitmesh.config import Config
from hitmesh.store.urls import is_consul


def policy_name(who: str) -> str:
    """As the policy of a role, of operators or of Consul's agents is called in Consul."""
    return f"hitmesh-{who}"


def rules_of(who: str, config: Config) -> str:
    """What it says, with the prefixes of the datacenter's URLs. Raises CommandError."""
    text = shipped(f"docs/consul/{who}.hcl").read_text(encoding="utf-8")
    prefixes = {
        "hitmesh": prefix_of(config.stores.totals) or "hitmesh",
        "hitmesh-settings": prefix_of(config.stores.settings) or "hitmesh-settings",
    }
    # A key's prefix ends with a slash; a service of such a name has none.
    return re.sub(r'"(hitmesh|hitmesh-settings)/', lambda found: f'"{prefixes[found[1]]}/', text)


def prefix_of(url: str) -> str:
    """The prefix in a store's URL; empty for one that isn't in Consul."""
    return url.partition("://")[2].partition("?")[0].partition("/")[2].rstrip("/") if is_consul(url) else ""

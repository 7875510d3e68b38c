"""Runs a blocking call without stopping gevent's hub. Owns nothing; works in a plain process too.

In a thread where a hub runs, the call goes to the hub's thread pool and only the calling
greenlet waits. Elsewhere (the command line, a thread of the pool itself) it is just called.

Nothing else may call into the thread pool: an exception that leaves a call there is printed by the
hub first, and where nobody reads what it prints the caller waits for ever, with every lock it holds.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")


def call_blocking(work: Callable[[], T], pool: Callable[[], Any] | None = None) -> T:
    """What `work()` returns or raises. It runs in another thread when this one has a hub.

    That is one of the hub's pool, or of `pool()`: work that may take long keeps nobody else waiting there.
    """
    hub = current_hub()
    if hub is None:
        return work()
    raised: list[BaseException] = []

    def guarded() -> T | None:
        try:
            return work()
        except BaseException as error:  # noqa: BLE001 - all of them are raised in the caller, below
            raised.append(error)
            return None

    value = (pool() if pool else hub.threadpool).apply(guarded)
    if raised:
        raise raised[0]
    return value  # type: ignore[no-any-return]


def current_hub() -> Any:
    """The hub of this thread; None where none runs."""
    hub_local = sys.modules.get("gevent._hub_local")  # not imported here: the CLI has no need of gevent
    return hub_local.get_hub_if_exists() if hub_local is not None else None


def socket_is_cooperative() -> bool:
    """Whether the standard library's sockets wait on the hub by themselves (gevent has patched them)."""
    monkey = sys.modules.get("gevent.monkey")
    return monkey is not None and bool(monkey.is_module_patched("socket"))

"""`python -m tests.balancer.buggy_main ...`: the balancer with bugs in it, for requests that ask for one by their path."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any


def _raises(function: Callable[..., Any], path: bytes, target: Callable[..., bytes]) -> Callable[..., Any]:
    def buggy(*args: Any, **options: Any) -> Any:
        if path in target(*args):
            raise RuntimeError("on purpose")
        return function(*args, **options)

    return buggy


def put_bugs_in() -> None:
    """In the worker's process."""
    from hitmesh.startup import patch

    patch()
    from balancer.middle.exchange import Exchange
    from balancer.middle.forward import RequestForwarder

    def of_exchange(exchange: Exchange, *_: Any) -> bytes:
        return exchange.request.target

    def of_head(_: Any, request: Any, *__: Any) -> bytes:
        target: bytes = request.target
        return target

    patched: Any = Exchange
    patched.answered = _raises(Exchange.answered, b"/bug-answered", of_exchange)
    patched.timed_out = _raises(Exchange.timed_out, b"/bug-late", of_exchange)
    patched.abandon = _raises(Exchange.abandon, b"/bug-again", of_exchange)
    forwarder: Any = RequestForwarder
    forwarder.head = _raises(RequestForwarder.head, b"/bug-head", of_head)


if __name__ == "__main__":
    if "--worker" in sys.argv:
        put_bugs_in()
    from balancer.__main__ import main

    main()

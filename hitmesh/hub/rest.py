"""A rest: the hub runs once, and whatever is at hand by then comes first, from sockets too.

`gevent.sleep(0)` isn't one. It lets greenlets run that are ready already, again and again for some milliseconds if they rest
in this way as well, and the hub looks at no socket before that (gevent 26.9: the loop's callbacks run until none is left).
"""

from __future__ import annotations

from typing import Any

from gevent.hub import get_hub


def rest() -> None:
    """Return when the hub has looked at its sockets once, and has done what was to be done there."""
    hub: Any = get_hub()
    # Due at once, and of all that is, the last to be called.
    hub.wait(hub.loop.timer(0, priority=hub.loop.MINPRI))

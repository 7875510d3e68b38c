"""An answer that an app has begun and can't give yet: a kind of WSGI body, as that of `wsgi.file_wrapper` is. Pure.

An app returns a HeldAnswer in place of a list of bytes, without having called `start_response`. Any WSGI server may
iterate it: that waits, calls `start_response` (PEP 3333 lets the first iteration do so) and gives the body. A server
that knows the kind needs nobody who waits: it gives `hold` a function that is called when there is an answer, and
iterates then.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from mypy_extensions import mypyc_attr


@mypyc_attr(allow_interpreted_subclasses=True)
class HeldAnswer:
    """What the server may ask of one."""

    __slots__ = ()

    def __iter__(self) -> Iterator[bytes]:
        """The body, once there is an answer; begins it by calling `start_response`. To be iterated once."""
        raise NotImplementedError

    def hold(self, released: Callable[[], None]) -> None:
        """Have `released` called, once, when there is an answer; never before this returns. It must not block."""
        raise NotImplementedError

    def waits(self) -> bool:
        """Whether iterating would wait all the same, now that it has been released."""
        raise NotImplementedError

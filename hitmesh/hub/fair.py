"""A lock whose turns come in the order in which they were asked for. Works in a plain process too.

threading.Lock, and gevent's in its place, isn't fair: who releases it and asks again at once has it again, and those who
wait may wait for ever. Made where gevent has patched, it keeps greenlets waiting, and elsewhere threads.
"""

from __future__ import annotations

import threading
from collections import deque


class FairLock:
    """To be used by `with`."""

    def __init__(self) -> None:
        self._look = threading.Lock()  # held for no longer than a look takes
        self._is_held = False
        self._waiting: deque[threading.Event] = deque()

    def __enter__(self) -> None:
        with self._look:
            if not self._is_held:
                self._is_held = True
                return
            turn = threading.Event()
            self._waiting.append(turn)
        try:
            turn.wait()
        except BaseException:  # killed: it may be its turn already
            with self._look:
                is_mine = turn.is_set()
                if not is_mine:
                    self._waiting.remove(turn)
            if is_mine:
                self.__exit__()
            raise

    def __exit__(self, *_: object) -> None:
        with self._look:
            if self._waiting:
                self._waiting.popleft().set()  # held all the time: nobody gets in between
            else:
                self._is_held = False

"""Whether a test can start a process: by what its own code and its fixtures' code name, within these tests.

It doesn't see what the product starts when it is called: a test that has it do so carries the marker itself.
"""

from __future__ import annotations

import multiprocessing
import subprocess
from collections.abc import Iterator
from types import CodeType, FunctionType
from typing import Any, Final

import pytest

STARTERS: Final = (subprocess, multiprocessing)
SERVERS: Final = frozenset({"consul", "beanstalkd", "pair"})  # parameters of tests that run on every kind of store

_known: dict[int, bool] = {}


def starts_processes(item: pytest.Item) -> bool:
    """Whether a test, its fixtures or what they use name something that starts a process."""
    assert isinstance(item, pytest.Function)
    if hasattr(item, "callspec") and not SERVERS.isdisjoint(map(str, item.callspec.params.values())):
        return True
    fixtures = item._fixtureinfo.name2fixturedefs
    used = [fixtures[name][-1].func for name in item.fixturenames if name in fixtures]
    return any(can_start(each) for each in (item.obj, *used))


def can_start(thing: Any) -> bool:
    """The same of a function or a class of these tests, or a module."""
    if any(thing is each for each in STARTERS):
        return True
    thing = getattr(thing, "__func__", thing)
    if not isinstance(thing, FunctionType | type) or not str(thing.__module__).startswith("tests."):
        return False
    if id(thing) not in _known:
        _known[id(thing)] = False  # what names itself
        _known[id(thing)] = any(can_start(each) for each in _named_by(thing))
    return _known[id(thing)]


def _named_by(thing: FunctionType | type) -> Iterator[Any]:
    """What it names that is known where it was written; of a class what its parts name."""
    if isinstance(thing, type):
        yield from thing.__bases__
        for part in vars(thing).values():
            yield getattr(part, "fget", getattr(part, "__wrapped__", part))
        return
    if wrapped := getattr(thing, "__wrapped__", None):
        yield wrapped
    names = set(_names(thing.__code__))
    yield from (value for name, value in thing.__globals__.items() if name in names)
    for cell in thing.__closure__ or ():
        yield cell.cell_contents


def _names(code: CodeType) -> Iterator[str]:
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _names(constant)

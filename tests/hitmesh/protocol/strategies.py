"""Any message that the types allow: strategies read off the messages' own declarations, so that a
new field is drawn without anybody's help.
"""

from __future__ import annotations

import string
from typing import Any, TypeVar

import msgspec.inspect as declared
from hypothesis import strategies as st

from hitmesh.protocol.messages import MAX_TOTAL, MESSAGES, VERSION, Applied, LaneState, Message, Part
from hitmesh.protocol.names import ENDPOINT

M = TypeVar("M", bound=Message)
FEW = 4  # entries of a collection: bounds have tests of their own
NAMES = st.text(st.sampled_from(string.ascii_letters + string.digits + "._-"), min_size=1, max_size=12)
ENDPOINTS = st.sampled_from(["tcp://127.0.0.1:1", "tcp://[::1]:65535", "http://10.0.0.1:8010", "tcp://999.1.1.1:99999"])
CHARACTERS = st.characters(exclude_categories=["Cs"])


def any_message() -> st.SearchStrategy[Message]:
    """A message of any kind."""
    return st.one_of([any_of(kind) for kind in MESSAGES])


def any_of(kind: type[M]) -> st.SearchStrategy[M]:
    """A message of one kind."""
    return _struct(declared.type_info(kind))


def any_ranges() -> st.SearchStrategy[tuple[int, tuple[tuple[int, int], ...]]]:
    """A mark, and sorted ranges above it with holes between, up to the greatest number."""

    def cut(points: set[int]) -> tuple[int, tuple[tuple[int, int], ...]]:
        mark, *rest = sorted(points)
        ranges: list[tuple[int, int]] = []
        end = mark
        for first, last in zip(rest[::2], rest[1::2], strict=False):
            if first > end + 1:
                ranges.append((first, last))
                end = last
        return mark, tuple(ranges)

    numbers = st.one_of(st.integers(0, 20), st.integers(0, MAX_TOTAL))
    return st.sets(numbers, min_size=1, max_size=9).map(cut)


def _struct(info: declared.Type) -> st.SearchStrategy[Any]:
    assert isinstance(info, declared.StructType)
    kind = info.cls
    fields = {field.name: _any(field.type) for field in info.fields}
    if issubclass(kind, Message):
        fields |= {"version": st.just(VERSION), "kind": st.just(kind.KIND)}
    # the rules between fields, which types can't say
    if kind is Part:
        return st.builds(lambda seq, low, **rest: Part(seq=max(seq, low), low=min(seq, low), **rest), **fields)
    if kind in (Applied, LaneState):
        del fields["mark"], fields["above"]
        return st.builds(
            lambda ranges, **rest: kind(mark=ranges[0], above=ranges[1], **rest), ranges=any_ranges(), **fields
        )
    return st.builds(kind, **fields)


def _any(info: declared.Type) -> st.SearchStrategy[Any]:
    match info:
        case declared.BoolType():
            return st.booleans()
        case declared.IntType(ge=least, lt=beyond, le=most):
            least = 0 if least is None else least
            most = beyond - 1 if beyond is not None else MAX_TOTAL if most is None else most
            return st.one_of(st.integers(least, min(most, least + 300)), st.integers(least, most), st.just(most))
        case declared.FloatType(ge=least_load, le=most_load):
            return st.floats(least_load, most_load, allow_nan=False)
        case declared.StrType() | declared.BytesType():
            return _text(info)
        case declared.VarTupleType(item_type=item, min_length=fewest):
            return st.lists(_any(item), min_size=fewest or 0, max_size=FEW).map(tuple)
        case declared.TupleType(item_types=items):
            return st.tuples(*[_any(item) for item in items])
        case declared.DictType(key_type=key, value_type=value):
            return st.dictionaries(_any(key), _any(value), max_size=FEW)
        case declared.UnionType(types=types):
            return st.one_of([_any(each) for each in types])
        case declared.NoneType():
            return st.none()
        case declared.StructType():
            return _struct(info)
    raise AssertionError(f"no strategy for {info}")


def _text(info: declared.StrType | declared.BytesType) -> st.SearchStrategy[Any]:
    if isinstance(info, declared.StrType) and info.pattern is not None:
        return ENDPOINTS if info.pattern == ENDPOINT else NAMES
    assert info.max_length is not None, "text without a bound"
    longest = min(info.max_length, 12)
    if isinstance(info, declared.BytesType):
        return st.binary(max_size=longest)
    return st.text(CHARACTERS, min_size=info.min_length or 0, max_size=longest)

"""What is wrong with a table of settings, in sentences. Pure; knows no particular setting.

msgspec says whether a table is right. Where it isn't, `mistakes` looks again, value by value, and
names each wrong key by its full path, with what stands there and what would be right.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Sequence
from typing import Annotated, Any, get_args, get_origin, get_type_hints

import msgspec

_PATTERN = re.compile(r" matching regex '(.*)'$")
_LENGTH = re.compile(r"of length (\S+) (\d+)$")
_BOUND = re.compile(r"` ([<>]=? \S+)$")
_KINDS = {
    "int": "a whole number",
    "float": "a number",
    "str": "a string",
    "bool": "true or false",
    "array": "an array",
    "object": "a table",
}
_SHOWN_CHARS = 60  # of a wrong value: enough to find it in the file


def mistakes(data: object, kind: Any, path: str = "") -> Iterator[str]:
    """Everything that keeps `data` from being a `kind`; nothing when it is one."""
    bare = get_args(kind)[0] if get_origin(kind) is Annotated else kind
    if isinstance(bare, type) and issubclass(bare, msgspec.Struct) and isinstance(data, dict):
        yield from _in_table(data, bare, path)
        return
    if get_origin(bare) is dict and isinstance(data, dict):
        key_kind, value_kind = get_args(bare)
        for key, value in data.items():
            if problem := _wrong(key, key_kind):
                yield f"{path} has an entry named {_shown(key)}: a name {problem}"
            yield from mistakes(value, value_kind, f"{path}.{key}")
    elif get_origin(bare) is tuple and isinstance(data, list):
        for index, value in enumerate(data):
            yield from mistakes(value, get_args(bare)[0], f"{path}[{index}]")
    if problem := _wrong(data, kind):
        yield f"{path} {problem}, not {_shown(data)}{_help(kind)}"


def nearest(word: str, known: Sequence[str]) -> str:
    """A hint at what was meant by `word`, or all that could have been."""
    near = difflib.get_close_matches(word, known, n=1)
    return f"did you mean {near[0]}?" if near else f"known here: {', '.join(known)}"


def _in_table(data: dict[str, Any], table: type[msgspec.Struct], path: str) -> Iterator[str]:
    kinds = get_type_hints(table, include_extras=True)
    names = list(table.__struct_fields__)
    for key, value in data.items():
        where = f"{path}.{key}" if path else key
        if key in names:
            yield from mistakes(value, kinds[key], where)
        else:
            yield f"{where} is not a setting; {nearest(key, names)}"
    for field in msgspec.structs.fields(table):
        if field.required and field.name not in data:
            yield f"{path + '.' if path else ''}{field.name} is missing{_help(kinds[field.name])}"


def _wrong(value: object, kind: Any) -> str:
    """What `value` must be to be a `kind`; empty when it is one, or what is in it is wrong."""
    try:
        msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        text = str(error)
    else:
        return ""
    text, at, where = text.partition(" - at `")
    if at and where.startswith("$"):
        return ""  # something within it, named already by its own path
    expected = re.search(r"`(\w+)`", text)
    right = _KINDS.get(expected[1], expected[1]) if expected else text
    if found := _PATTERN.search(text):
        right += f" that matches {found[1]}"
    elif found := _LENGTH.search(text):
        right += f" with {found[1]} {found[2]} entries"
    elif found := _BOUND.search(text):
        right += f" {found[1]}"
    return f"must be {right}"


def _shown(value: object) -> str:
    try:
        text = msgspec.json.encode(value).decode()  # as TOML writes it, near enough
    except (TypeError, ValueError, UnicodeError):
        text = repr(value)
    return text if len(text) <= _SHOWN_CHARS else text[: _SHOWN_CHARS - 3] + "..."


def _help(kind: Any) -> str:
    """What the setting is for, from its declaration."""
    if get_origin(kind) is Annotated:
        for meta in get_args(kind)[1:]:
            if isinstance(meta, msgspec.Meta) and meta.description:
                return f" ({meta.description})"
    return ""

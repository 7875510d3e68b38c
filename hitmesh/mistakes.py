"""What is wrong with a table of settings, in sentences. Pure; knows no particular setting.

msgspec says whether a table is right. Where it isn't, `mistakes` looks again, value by value, and
names each wrong key by its full path, with what stands there and what would be right.
"""

from __future__ import annotations

import difflib
import math
import re
import types
from collections.abc import Iterator, Sequence
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

import msgspec

_PATTERN = re.compile(r" matching regex '(.*)'$")
_END = r"\\Z"  # as msgspec shows it; a pattern says it because $ also matches before a last line feed
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
SECRET = {"secret": True}
"""`extra` of a setting's Meta whose value isn't part of what is said."""
_SHOWN_CHARS = 60  # of a wrong value: enough to find it in the file


def mistakes(data: object, kind: Any, path: str = "") -> Iterator[str]:
    """Everything that keeps `data` from being a `kind`; nothing when it is one."""
    bare = get_args(kind)[0] if get_origin(kind) is Annotated else kind
    if get_origin(bare) in (Union, types.UnionType) and isinstance(data, dict):
        yield from _in_choice(data, get_args(bare), path)
        return
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
        if get_origin(bare) is Literal:
            yield f"{path} {_not_among(data, get_args(bare))}{_help(kind)}"
        else:
            yield f"{path} {problem}{'' if _is_secret(kind) else f', not {_shown(data)}'}{_help(kind)}"


def nearest(word: str, known: Sequence[str]) -> str:
    """A hint at what was meant by `word`, or all that could have been."""
    near = difflib.get_close_matches(word, known, n=1)
    return f"did you mean {near[0]}?" if near else f"known here: {', '.join(known)}"


def _in_choice(data: dict[str, Any], tables: Sequence[type[msgspec.Struct]], path: str) -> Iterator[str]:
    """Of one of several tables, told apart by a setting that each of them fixes."""
    by_tag = {table.__struct_config__.tag: table for table in tables}
    key = str(tables[0].__struct_config__.tag_field)
    where = f"{path}.{key}" if path else key
    if key not in data:
        yield f"{where} is missing ({_either(list(by_tag))})"
    elif isinstance(data[key], str) and data[key] in by_tag:
        yield from _in_table(data, by_tag[data[key]], path)
    else:
        yield f"{where} {_not_among(data[key], list(by_tag))}"


def _in_table(data: dict[str, Any], table: type[msgspec.Struct], path: str) -> Iterator[str]:
    kinds = get_type_hints(table, include_extras=True)
    names = list(table.__struct_fields__)
    for key, value in data.items():
        where = f"{path}.{key}" if path else key
        if key == table.__struct_config__.tag_field:
            continue  # chose this table
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
        right += f" that matches {found[1].replace(_END, '$')}"
    elif found := _LENGTH.search(text):
        right += f" with {found[1]} {found[2]} entries"
    elif found := _BOUND.search(text):
        right += f" {found[1]}"
    return f"must be {right}"


def _not_among(value: object, known: Sequence[Any]) -> str:
    """What a value must be that is none of the few that there are; with the nearest of them."""
    words = [each for each in known if isinstance(each, str) and each]
    # `inf` without quotes is a number to TOML, and a word that isn't quite right to whoever wrote it.
    near = difflib.get_close_matches(str(value), words, n=1) if isinstance(value, str | float) else []
    hint = f"; did you mean {near[0]}?" if near else ""
    return f"must be {_either(known)}, not {_shown(value)}{hint}"


def _either(known: Sequence[Any]) -> str:
    *most, last = (_shown(each) for each in known)
    return f"{', '.join(most)} or {last}" if most else last


def _shown(value: object) -> str:
    if isinstance(value, float) and not math.isfinite(value):
        return repr(value)  # which JSON has no word for
    try:
        text = msgspec.json.encode(value).decode()  # as TOML writes it, near enough
    except (TypeError, ValueError, UnicodeError):
        text = repr(value)
    return text if len(text) <= _SHOWN_CHARS else text[: _SHOWN_CHARS - 3] + "..."


def _help(kind: Any) -> str:
    """What the setting is for, from its declaration."""
    return next((f" ({meta.description})" for meta in _metas(kind) if meta.description), "")


def _is_secret(kind: Any) -> bool:
    """Whether its declaration says that nobody may be shown its value."""
    return any(meta.extra == SECRET for meta in _metas(kind))


def _metas(kind: Any) -> list[msgspec.Meta]:
    said = get_args(kind)[1:] if get_origin(kind) is Annotated else ()
    return [meta for meta in said if isinstance(meta, msgspec.Meta)]

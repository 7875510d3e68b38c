"""What is wrong with a table, for kinds of tables that no section of a configuration shows alone."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import pytest
from msgspec import Meta, Struct

from hitmesh.mistakes import mistakes, nearest


class Cat(Struct, tag="cat", tag_field="kind", forbid_unknown_fields=True):
    lives: Annotated[int, Meta(ge=1, le=9, description="what is left")]


class Dog(Struct, tag="dog", tag_field="kind", forbid_unknown_fields=True):
    size: Literal["small", "large"] = "small"
    rank: Literal[1, 2] = 1


class Home(Struct, forbid_unknown_fields=True):
    pet: Cat | Dog
    others: dict[str, Cat | Dog] = {}
    first: tuple[Cat | Dog, ...] = ()


@pytest.mark.parametrize(
    ("data", "found"),
    [
        ({"pet": {"kind": "cat", "lives": 7}}, []),
        ({"pet": {"kind": "cat"}}, ["pet.lives is missing (what is left)"]),
        ({"pet": {"kind": "cat", "lives": 10}}, ["pet.lives must be a whole number <= 9, not 10 (what is left)"]),
        ({"pet": {"kind": "dog", "lives": 7}}, ["pet.lives is not a setting; known here: size, rank"]),
        ({"pet": {"lives": 7}}, ['pet.kind is missing ("cat" or "dog")']),
        ({"pet": {"kind": "dogg"}}, ['pet.kind must be "cat" or "dog", not "dogg"; did you mean dog?']),
        ({"pet": {"kind": ["dog"]}}, ['pet.kind must be "cat" or "dog", not ["dog"]']),
        (
            {"pet": {"kind": "dog", "size": "larg"}},
            ['pet.size must be "small" or "large", not "larg"; did you mean large?'],
        ),
        ({"pet": {"kind": "dog", "rank": 3}}, ["pet.rank must be 1 or 2, not 3"]),
        ({"pet": {"kind": "dog", "rank": "1"}}, ['pet.rank must be 1 or 2, not "1"']),
        (
            {"pet": {"kind": "dog"}, "others": {"a": {"kind": "do"}}},
            ['others.a.kind must be "cat" or "dog", not "do"; did'],
        ),
        ({"pet": {"kind": "dog"}, "first": [{"kind": "cat"}]}, ["first[0].lives is missing (what is left)"]),
        ({"pet": "dog"}, ['pet must be a table, not "dog"']),
    ],
)
def test_one_of_several_tables_is_judged_by_what_it_says_it_is(data: dict[str, Any], found: list[str]) -> None:
    said = list(mistakes(data, Home))
    assert len(said) == len(found)
    assert all(text.startswith(expected) for text, expected in zip(said, found, strict=True))


def test_the_nearest_word_is_offered_or_all_of_them() -> None:
    assert nearest("colector", ["collector", "nexus"]) == "did you mean collector?"
    assert nearest("zzz", ["collector", "nexus"]) == "known here: collector, nexus"

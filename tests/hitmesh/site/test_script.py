"""The script's files: made of its source, small, and never gone."""

from __future__ import annotations

import gzip

import minify

from hitmesh.site.script import CURRENT, FOLDER, integrity_of, name_of, scripts


def test_the_script_is_made_of_its_source() -> None:
    source = (FOLDER / "count.source.js").read_text()
    assert scripts()[CURRENT].decode() == minify.string("application/javascript", source), "run scripts/count_js.py"


def test_the_script_is_small() -> None:
    assert len(scripts()[CURRENT]) < 2048
    assert len(gzip.compress(scripts()[CURRENT], 9)) < 1300


def test_each_script_is_served_by_its_hash_and_the_current_one_by_its_name_too() -> None:
    current = scripts()[CURRENT]
    assert scripts()[name_of(current)] == current
    assert len(scripts()) == 2 + len(list(FOLDER.glob("earlier/*.js")))
    assert all(name == name_of(script) for name, script in scripts().items() if name != CURRENT)


def test_integrity_is_what_browsers_check() -> None:
    assert integrity_of(b"alert('Hello, world.');") == (  # the specification's own example
        "sha384-H8BRh8j48O9oYatfu5AZzq6A9RINhZO5H16dQZngK7T62em8MUt1FLm52t+eX6xO"
    )

"""Datacenters that have heard of the same changes hold the same settings, in whatever order those came."""

from __future__ import annotations

import itertools
import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from hitmesh.settings import Edition
from hitmesh.settings.merging import digest, newer
from hitmesh.settings.sqlite import SqliteSettings
from tests.examples import examples

KEYS = ["a", "b", "timing.commit_s"]
DCS = 3

editions = st.builds(
    Edition,
    key=st.sampled_from(KEYS),
    value=st.sampled_from([None, b"", b"1", b"2"]),
    version=st.integers(1, 4),
    author=st.sampled_from(["anna", "ben"]),
    changed_at=st.sampled_from([1.0, 2.0, 2.5]),
)
# A change in one datacenter, or what one has merged into another.
steps = st.one_of(
    st.tuples(st.just("set"), st.integers(0, DCS - 1), st.sampled_from(KEYS), st.sampled_from([b"1", b"2"])),
    st.tuples(st.just("delete"), st.integers(0, DCS - 1), st.sampled_from(KEYS), st.just(b"")),
    st.tuples(st.just("merge"), st.integers(0, DCS - 1), st.just(""), st.sampled_from([b"0", b"1", b"2"])),
)


def merged(known: dict[str, Edition], given: list[Edition]) -> dict[str, Edition]:
    return known | {each.key: each for each in newer(given, known)}


@given(st.lists(editions, max_size=12), st.randoms(use_true_random=False))
def test_editions_that_come_in_any_order_and_grouping_end_equal(given: list[Edition], random: object) -> None:
    import random as randoms

    assert isinstance(random, randoms.Random)
    ends = []
    for _ in range(3):
        left = [*given, *given[: len(given) // 2]]  # some come twice
        random.shuffle(left)
        known: dict[str, Edition] = {}
        while left:
            count = random.randint(1, len(left))
            known, left = merged(known, left[:count]), left[count:]
        ends.append(known)
    assert ends[0] == ends[1] == ends[2]
    assert len({digest(end) for end in ends}) == 1
    assert all(each.rank == max(one.rank for one in given if one.key == key) for key, each in ends[0].items())


@given(st.lists(editions, max_size=6), st.lists(editions, max_size=6))
def test_a_digest_is_equal_for_equal_editions_and_no_others(one: list[Edition], other: list[Edition]) -> None:
    first, second = merged({}, one), merged({}, other)
    assert (digest(first) == digest(second)) == (first == second)
    assert digest(dict(reversed(first.items()))) == digest(first)


def test_a_digest_is_as_the_document_says() -> None:
    import hashlib

    found = {"b": Edition("b", None, 3, "ben", 2.5), "a": Edition("a", b"x", 2, "anna", 1.0)}
    text = b'["a","78",2,"anna",1.0]["b",null,3,"ben",2.5]'
    assert digest(found) == hashlib.blake2b(text, digest_size=16).hexdigest()


@settings(max_examples=examples(15), deadline=None)  # each of which writes to disk a hundred times or so
@given(st.lists(steps, max_size=14), st.permutations(list(itertools.permutations(range(DCS), 2))))
def test_stores_that_exchange_in_any_order_and_pairs_end_equal(
    done: list[tuple[str, int, str, bytes]], pairs: list[tuple[int, int]]
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        stores = [SqliteSettings(Path(folder) / f"{number}.db") for number in range(DCS)]
        changed: dict[tuple[int, str], int] = {}
        for what, number, key, value in done:
            store = stores[number]
            before = max((each.version for each in store.editions().values()), default=0)
            if what == "merge":
                store.merge(stores[int(value)].editions().values())
                continue
            if what == "set":
                version = store.set(key, value, author=f"of-{number}").version
            elif store.delete(key, author=f"of-{number}"):
                version = store.editions()[key].version
            else:
                continue
            assert version > before
            assert version > changed.get((number, ""), 0)
            changed[number, ""] = version
        # Two rounds of all pairs: what the last pair of the first one brought has gone everywhere.
        for to, by in [*pairs, *pairs]:
            stores[to].merge(stores[by].editions().values())
        ends = [store.editions() for store in stores]
        assert ends[0] == ends[1] == ends[2]
        assert len({digest(end) for end in ends}) == 1
        assert all(stores[to].merge(ends[by].values()) == 0 for to, by in pairs)

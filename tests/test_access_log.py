"""The made access log: the same every time, and of the shape that its docstring claims."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from urllib.parse import unquote_to_bytes

import pytest

from tests.access_log import ODD_PATHS, PATHS, REQUESTS, lines, paths_with_counts
from tests.conftest import find_access_log

REQUEST = re.compile(rb'^\S+ - - \[[^]]+\] "([A-Z]+) (\S+) HTTP/1\.1" \d{3} (?:\d+|-) "[^"]*" "[^"]*("?)\n$')


def test_it_is_the_same_every_time() -> None:
    assert lines() == lines()


def test_every_line_is_a_request_and_one_lost_its_tail() -> None:
    found = [REQUEST.match(line) for line in lines()]
    assert len(found) == REQUESTS
    assert all(found)
    assert [match[3] for match in found if match].count(b"") == 1


def test_the_paths_are_counted_as_announced() -> None:
    seen: Counter[str] = Counter()
    for line in lines():
        match = REQUEST.match(line)
        assert match
        seen[match[2].split(b"?")[0].decode()] += 1
    assert dict(seen) == dict(paths_with_counts())
    assert len(seen) == PATHS


def test_few_paths_take_most_requests_and_half_of_them_come_once() -> None:
    counts = [count for _, count in paths_with_counts()]
    assert counts == sorted(counts, reverse=True)
    assert sum(counts[:20]) > REQUESTS * 0.3
    assert sum(count == 1 for count in counts) > PATHS * 0.3


def test_all_methods_and_query_strings_occur() -> None:
    text = b"".join(lines())
    assert set(re.findall(rb'"([A-Z]+) /', text)) == {b"GET", b"HEAD", b"POST", b"OPTIONS"}
    assert len(re.findall(rb'"[A-Z]+ \S+\?', text)) > 1_000


def test_the_odd_paths_include_one_that_is_not_utf_8() -> None:
    def is_utf_8(path: str) -> bool:
        try:
            unquote_to_bytes(path).decode()
        except UnicodeDecodeError:
            return False
        return True

    assert not all(is_utf_8(path) for path in ODD_PATHS)


def test_the_fixture_gives_a_log_of_that_many_requests(access_log: Path) -> None:
    assert access_log.read_bytes().count(b"\n") == REQUESTS


def test_a_named_log_comes_first(tmp_path: Path) -> None:
    named, beside = tmp_path / "named", tmp_path / "beside"
    named.touch()
    beside.touch()
    assert find_access_log(str(named), beside, tmp_path / "made") == named


def test_a_named_log_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="not a file"):
        find_access_log(str(tmp_path / "named"), tmp_path / "beside", tmp_path / "made")


def test_a_log_beside_the_checkout_comes_before_a_made_one(tmp_path: Path) -> None:
    beside = tmp_path / "beside"
    beside.touch()
    assert find_access_log("", beside, tmp_path / "made") == beside


def test_without_any_one_is_made(tmp_path: Path) -> None:
    found = find_access_log("", tmp_path / "beside", tmp_path / "made")
    assert found.read_bytes() == b"".join(lines())

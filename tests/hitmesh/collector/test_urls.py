"""Which page a URL is, as bytes on the wire: the same to a collector and through a balancer, or none at all."""

from __future__ import annotations

import pytest

from tests.hitmesh.collector.raw import Raw
from tests.hitmesh.collector.test_app import assert_error, nothing_counted
from tests.system.mesh import Answer, Mesh


def ask(address: tuple[str, int], target: str, more: str = "", method: str = "POST") -> Answer:
    """One request whose target is these characters."""
    with Raw(address) as raw:
        return raw.ask(f"{method} {target} HTTP/1.1\r\nHost: h\r\n{more}Content-Length: 0\r\n\r\n".encode())


@pytest.mark.parametrize(
    ("target", "page"),
    [
        ("/hit/s/a", "s/a"),
        ("/%68it/s/a", "s/a"),
        ("/hit%2Fs/a", "s/a"),
        ("/%68%69%74%2fs%2fa", "s/a"),
        ("/hit/s/%61", "s/a"),
        ("/hit/s%2Fa", "s/a"),
        ("/hit/s/a/", "s/a"),
        ("/hit/s/a%2F", "s/a"),
        ("/hit/s/a?b=/hit/c", "s/a"),
        ("/hit/s/a;b=c", "s/a;b=c"),
        ("/hit/s/a%3Bb", "s/a;b"),
        ("/hit/s//a", "s//a"),
        ("/hit/hit/s/a", "hit/s/a"),
        ("/hit/http://h/a", "http://h/a"),
        ("/hit/s/%2541", "s/%41"),
        ("/hit/s/a:b@c", "s/a:b@c"),
        ("/hit/s/[a]", "s/[a]"),
        ("/hit/s/%EF%BF%BD", "s/\ufffd"),
        ("http://other/hit/s/a", "s/a"),
        ("HTTP://other:80/hit/s/a?b", "s/a"),
        ("http://other/hit/http://h/a", "http://h/a"),
    ],
)
def test_a_page_is_the_same_on_both_ways(mesh: Mesh, balanced: tuple[str, int], target: str, page: str) -> None:
    answers = [ask(address, target) for address in (mesh.address(), balanced)]
    assert [(answer.status, answer.json()["page"]) for answer in answers] == [(200, page)] * 2
    assert answers[1].json()["total"] == answers[0].json()["total"] + 1


NOT_A_PAGE = [
    ("//hit/s/a", 404),
    ("///hit/site/a", 404),
    ("////hit/site/a", 404),
    ("/%2Fhit/s/a", 404),
    ("/%2F%2Fhit/s/a", 404),
    ("http://h//hit/s/a", 404),
    ("http://h///hit/s/a", 404),
    ("/./hit/s/a", 404),
    ("/x/../hit/s/a", 404),
    ("/%2e/hit/s/a", 404),
    ("/hit;p/s/a", 404),
    ("/HIT/s/a", 404),
    ("/hit", 404),
    ("/hit%3Fs/a", 404),
    ("/hit%00/s/a", 404),
    ("/hit/", 400),
    ("/hit/?s/a", 400),
    ("/hit//", 400),
    ("/hit//s/a", 400),
    ("/hit///s/a", 400),
    ("/hit/%2Fs/a", 400),
    ("/hit%2F%2Fs/a", 400),
    ("/hit/../hit/s/a", 400),
    ("/hit/./s/a", 400),
    ("/hit/s/../a", 400),
    ("/hit/s/%2e%2E/a", 400),
    ("/hit/s%2F..%2Fa", 400),
    ("/hit/s/%ff", 400),
    ("/hit/%ff/%EF%BF%BD", 400),
    ("/hit/s/%00", 400),
    ("hit/s/a", 400),
    ("%2Fhit/s/a", 400),
    ("ftp://h/hit/s/a", 400),
    ("http://u@h/hit/s/a", 400),
    ("/hit/s/a#b", 400),
]


@pytest.mark.parametrize(("target", "status"), NOT_A_PAGE)
def test_what_is_no_page_is_refused(address: tuple[str, int], target: str, status: int) -> None:
    assert_error(ask(address, target), status)


def test_what_is_no_page_counts_nothing(mesh: Mesh, balanced: tuple[str, int]) -> None:
    with nothing_counted(mesh):
        for target, _ in NOT_A_PAGE:
            ask(mesh.address(), target)
            ask(balanced, target)


@pytest.mark.parametrize("path", ["/total/s/a", "/totals", "/health"])
@pytest.mark.parametrize("slashes", ["/", "//", "///", "/%2F"])
def test_every_route_has_one_slash_before_it(mesh: Mesh, slashes: str, path: str) -> None:
    assert_error(ask(mesh.address(), slashes + path, method="GET"), 404)


@pytest.mark.parametrize(
    "field", ["Script_Name: /hit", "SCRIPT_NAME: /hit/s", "Path_Info: /hit/s/b", "X-Original-URL: /hit/s/b"]
)
def test_no_field_says_which_page_it_is(address: tuple[str, int], field: str) -> None:
    answer = ask(address, "/hit/s/a", f"{field}\r\n")
    assert (answer.status, answer.json()["page"]) == (200, "s/a")

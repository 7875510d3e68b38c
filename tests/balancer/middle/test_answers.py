"""The balancer's own answers: what a script in a page may read of them, and what nobody may keep."""

from __future__ import annotations

import pytest

from balancer.middle.answers import Answer, refusal, render
from tests.balancer.wire.answers import read_answers

OWN = {
    "a redirect": Answer(308, headers=((b"Location", b"https://a.example/"),)),
    "a static page": Answer(200, b"hello", b"text/plain"),
    "a status": Answer(204),
    "no route": refusal(404, "there is no route for this Host"),
    "a method": refusal(405, "TRACE is not for servers like this one", ((b"Allow", b"GET"),)),
    "too many": refusal(429, "too many requests from this address"),
    "no backend": refusal(503, "no backend"),
    "a page while nothing works": Answer(503, b"back soon", b"text/html"),
}


def fields(answer: Answer, *, public: bool = True) -> dict[bytes, bytes]:
    out = render(answer, method=b"GET", minor=1, keep_alive=True, date=b"now", public=public)
    return dict(read_answers(out)[0].fields)


@pytest.mark.parametrize("name", OWN)
def test_a_script_of_any_page_may_read_it_and_nobody_guesses_its_type(name: str) -> None:
    found = fields(OWN[name])
    assert found[b"access-control-allow-origin"] == b"*"
    assert found[b"x-content-type-options"] == b"nosniff"


@pytest.mark.parametrize("name", OWN)
def test_an_error_is_never_kept(name: str) -> None:
    kept = fields(OWN[name]).get(b"cache-control") != b"no-store"
    assert kept == (OWN[name].status < 400)


def test_what_is_not_public_is_for_no_script_from_elsewhere() -> None:
    found = fields(refusal(408, "too late"), public=False)
    assert b"access-control-allow-origin" not in found
    assert (found[b"x-content-type-options"], found[b"cache-control"]) == (b"nosniff", b"no-store")

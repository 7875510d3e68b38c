"""Who may look at what a role shows of itself, by the settings of its datacenter."""

from __future__ import annotations

import pytest

from hitmesh.http.access import Access, MetricsAccess

OWN, READER, NONE = "own-token", "reader-token", ""
CLOSED, WITH_TOKEN, OPEN = MetricsAccess(), MetricsAccess(READER), MetricsAccess(is_open=True)


def status(access: Access, path: str, token: str = "", *, host: str = "10.1.0.11:8050", method: str = "GET") -> int:
    """Of the refusal; 200 for none."""
    environ = {"REQUEST_METHOD": method, "PATH_INFO": path, "HTTP_HOST": host}
    if token:
        environ["HTTP_AUTHORIZATION"] = f"Bearer {token}"
    refusal = access.refusal(environ)
    return 200 if refusal is None else refusal.status


@pytest.mark.parametrize(
    ("trace", "token", "expected"),
    [
        (CLOSED, "", 403),
        (CLOSED, READER, 403),
        (OPEN, "", 200),
        (WITH_TOKEN, "", 401),
        (WITH_TOKEN, "wrong", 401),
        (WITH_TOKEN, READER, 200),
    ],
)
def test_where_pages_are_named_only_those_may_look_who_may_see_the_dashboard(
    trace: MetricsAccess, token: str, expected: int
) -> None:
    assert status(Access("", (), OPEN, trace), "/trace", token) == expected


def test_nor_does_a_page_from_elsewhere_get_there_by_a_name_that_points_here() -> None:
    assert status(Access("", (), OPEN, OPEN), "/trace", host="evil.example") == 403


@pytest.mark.parametrize(
    ("own", "metrics", "path", "token", "expected"),
    [
        # a role that shows its metrics only
        (NONE, CLOSED, "/metrics", "", 200),
        (NONE, OPEN, "/metrics", "", 200),
        (NONE, WITH_TOKEN, "/metrics", "", 401),
        (NONE, WITH_TOKEN, "/metrics", "wrong", 401),
        (NONE, WITH_TOKEN, "/metrics", READER, 200),
        # a dashboard
        (OWN, CLOSED, "/metrics", "", 401),
        (OWN, CLOSED, "/metrics", OWN, 200),
        (OWN, OPEN, "/metrics", "", 200),
        (OWN, WITH_TOKEN, "/metrics", OWN, 200),
        (OWN, WITH_TOKEN, "/metrics", READER, 200),
        # which opens nothing else
        (OWN, WITH_TOKEN, "/status.json", READER, 401),
        (OWN, OPEN, "/status.json", "", 401),
        (OWN, OPEN, "/metrics/", "", 401),
        (OWN, WITH_TOKEN, "/health", "", 200),
    ],
)
def test_the_metrics_have_a_token_of_their_own(
    own: str, metrics: MetricsAccess, path: str, token: str, expected: int
) -> None:
    assert status(Access(own, metrics=metrics), path, token) == expected


@pytest.mark.parametrize("metrics", [CLOSED, OPEN])
def test_a_name_that_is_not_ours_leads_nowhere(metrics: MetricsAccess) -> None:
    access = Access("", ["App-1.internal"], metrics)
    assert status(access, "/metrics", host="evil.example") == 403
    assert status(access, "/metrics", host="app-1.internal:8050") == 200


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS"])
def test_nothing_can_be_changed(method: str) -> None:
    assert status(Access(OWN, metrics=OPEN), "/metrics", OWN, method=method) == 405

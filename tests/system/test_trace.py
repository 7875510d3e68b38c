"""`hitmesh trace` on a mesh of two datacenters: by page, batch and request, and through a take-over."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import pytest
from msgspec.structs import replace

from hitmesh.config import Log, dump, load
from tests.hitmesh.cli.meshes import SOON_S, Mesh, meshes
from tests.services import PATIENCE_S, wait_for

EVIL = "evil.example/a\u202e<b> level=error"  # no collector takes a control character, nor what ends a line
EVIL_ID = '<b>" level=error \\'
WAY = ["accepted", "formed", "in the spool, answered", "sent", "staged", "committed", "acked", "deleted from the spool"]


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mesh]:
    """Two datacenters; whoever stands still for some seconds is dead, and each request is slow that takes a millisecond."""
    with meshes(tmp_path_factory.mktemp("trace") / "var", nexus=1, processor=2, collector=1) as mesh:
        template = load(mesh.config)
        balancer = replace(template.balancer, trusted=("127.0.0.1",))
        # Nothing is sent again for being late, nor claimed: a busy machine is.
        timing = replace(template.timing, missed_heartbeats=16, retry_delay_s=60.0, resend_s=50.0)
        log = Log(format="json", slow_ms=1)
        mesh.config.write_text(dump(replace(template, balancer=balancer, timing=timing, log=log)))
        mesh.up("one,two")
        yield mesh


def hit(mesh: Mesh, page: str, request_id: str) -> None:
    [url] = mesh.urls("one", "balancer")
    connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=PATIENCE_S)
    with contextlib.closing(connection):
        connection.request("POST", f"/hit/{quote(page)}", headers={"X-Request-Id": request_id})
        answer = connection.getresponse()
        assert answer.status == 200, answer.read()


def traced(mesh: Mesh, id: str) -> dict[str, Any]:
    """The one batch, and who couldn't be asked; nothing while nobody knows it."""
    found: dict[str, Any] = mesh.json("trace", id)
    if not found["batches"]:
        return {}
    [batch] = found["batches"]
    return {**batch, "unasked": found["unasked"]}


def whole(mesh: Mesh, id: str) -> dict[str, Any]:
    """Its way, once it is at its end and the other datacenter has it."""

    def ended() -> dict[str, Any]:
        found = traced(mesh, id)
        whats = {each["what"] for each in found.get("stations", ())}
        return found if whats >= {"deleted from the spool", "committed there"} else {}

    return wait_for(ended, within_s=SOON_S, what=f"the end of {id}'s way")


def of(found: dict[str, Any], what: str) -> list[dict[str, Any]]:
    return [each for each in found["stations"] if each["what"] == what]


def test_a_hit_is_followed_by_its_request_its_page_and_its_batch_into_the_other_datacenter(mesh: Mesh) -> None:
    hit(mesh, "trace.example/a", "mine-1")
    found = whole(mesh, "mine-1")
    assert [each["what"] for each in found["stations"] if each["what"] != "committed there"] == WAY
    times = [each["at_ms"] for each in found["stations"]]
    assert times == sorted(times) and not any(each["is_behind"] for each in found["stations"])
    [sent], [staged], [committed], [acked] = (of(found, what) for what in WAY[3:7])
    assert sent["peer"].startswith(f"{staged['name']}.") and staged["name"] == committed["name"]
    assert sent["epoch"] == committed["epoch"] == acked["epoch"] and committed["commit"] == acked["commit"]
    [there] = of(found, "committed there")
    assert there["to_dc"] == "two" and there["peer"].startswith("processor-")
    assert there["commit"] >= committed["commit"]
    for id in ("trace.example/a", "trace.example/a/", found["batch"]):
        again = whole(mesh, id)
        assert (again["batch"], [each["what"] for each in again["stations"]]) == (
            found["batch"],
            [each["what"] for each in found["stations"]],
        )
    shown = mesh.run("trace", found["batch"]).stdout
    assert f"committed: epoch {committed['epoch']}, commit {committed['commit']}" in shown
    assert "committed in two, by processor-" in shown


def test_hostile_names_are_found_and_are_text_in_the_terminal(mesh: Mesh) -> None:
    hit(mesh, EVIL, EVIL_ID)
    assert whole(mesh, EVIL_ID)["batch"] == whole(mesh, EVIL)["batch"]
    unknown = mesh.run("trace", f"{EVIL}\x1b[2K\n")
    assert unknown.returncode == 1 and "an ID is a page" in unknown.stderr
    assert len(unknown.stderr.splitlines()) == 1 and unknown.stderr.strip().isprintable()


def test_a_slow_request_is_said_by_its_collector(mesh: Mesh) -> None:
    log = mesh.state_dir / "log" / "one-collector-1.log"

    def said() -> list[dict[str, Any]]:
        hit(mesh, EVIL, EVIL_ID)
        lines = [json.loads(line) for line in log.read_text().splitlines() if line.startswith("{")]
        return [each for each in lines if each["message"].startswith("slow request")]

    line, *_ = wait_for(said, within_s=SOON_S, what="a request that took a millisecond")
    assert (line["dc"], line["role"], line["name"]) == ("one", "collector", "collector-1")
    assert line["status"] == 200 and line["ms"] >= 1 and line["target"].startswith("/")


def test_a_hit_made_during_a_take_over_names_each_station(mesh: Mesh) -> None:
    page = "trace.example/taken"
    hit(mesh, page, "before-1")
    [before] = of(whole(mesh, "before-1"), "committed")
    owner = before["name"]
    pid = mesh.status()[f"one-{owner}"]["pid"]
    os.kill(pid, signal.SIGSTOP)
    try:
        hit(mesh, page, "during-1")
        found = whole(mesh, "during-1")
    finally:
        os.kill(pid, signal.SIGCONT)
    first, *_, last = of(found, "sent")
    assert first["peer"].startswith(f"{owner}.") and first["epoch"] == before["epoch"]
    assert not last["peer"].startswith(f"{owner}.") and last["epoch"] > before["epoch"]
    assert any(each["why"] == "a new owner, or epoch" for each in of(found, "sent") if "why" in each)
    [taken], [committed], [acked] = (of(found, what) for what in ("took the partition over", "committed", "acked"))
    assert taken["name"] == committed["name"] != owner
    assert taken["epoch"] == committed["epoch"] == acked["epoch"] == last["epoch"]
    order = [found["stations"].index(each) for each in (first, taken, of(found, "staged")[0], committed, acked)]
    assert order == sorted(order)
    assert any(each.startswith(f"{owner} of one doesn't answer") for each in found["unasked"])

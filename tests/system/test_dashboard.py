"""Dashboards of a whole mesh of two datacenters, as `hitmesh up` starts them: each shows both, by itself and through a
balancer, its page says in a real browser what isn't well, and nobody misses one that is killed or stopped.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest

from tests.hitmesh.cli.meshes import Mesh, meshes, settled, status_of
from tests.services import wait_for
from tests.services.browser import chromium
from tests.services.disks import full, small_disk
from tests.services.relay import Relay

DCS = ("eu-west", "us-west")
HOST = "dashboard.example"
ROLES = ("nexus", "processor", "collector", "balancer", "dashboard")
SOON_S = 60.0  # for what takes a second or two on a quiet machine


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mesh]:
    """For root the spool of eu-west has a disk of its own."""
    folder = tmp_path_factory.mktemp("dashboard")
    with contextlib.ExitStack() as stack:
        if not os.geteuid():
            stack.enter_context(small_disk(folder / "var" / DCS[0] / "spool", "8m"))
        spool = "sqlite:///spool/spool.db"
        mesh = stack.enter_context(
            meshes(folder / "var", spool=spool, nexus=1, processor=1, collector=1, balancer=1, dashboard=1)
        )
        mesh.up(",".join(DCS))
        yield mesh


def asked(url: str, path: str = "/status.json", host: str = "") -> Any:
    connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=SOON_S)
    with contextlib.closing(connection):
        connection.request("GET", path, headers={"Host": host} if host else {})
        answer = connection.getresponse()
        body = answer.read()
        assert answer.status == 200, body
        return json.loads(body)


def states(url: str) -> dict[str, dict[str, str]]:
    return {dc: {one["name"]: one["state"] for one in each["instances"]} for dc, each in asked(url)["dcs"].items()}


def shows(url: str, name: str, *wanted: str) -> Callable[[], bool]:
    """Whether a dashboard shows this instance of eu-west in one of these states."""
    return lambda: states(url)["eu-west"].get(name) in wanted


def urls(mesh: Mesh) -> list[str]:
    return [mesh.urls(dc, "dashboard")[0] for dc in DCS]


def test_each_dashboard_shows_every_instance_of_every_datacenter(mesh: Mesh) -> None:
    up = {dc: {f"{role}-1": "up" for role in ROLES} for dc in DCS}
    for dc, url in zip(DCS, urls(mesh), strict=True):
        wait_for(partial(shows_all, url, up), within_s=SOON_S, what="both datacenters to be up")
        status = asked(url)
        assert (status["format"], status["seen_from"]["dc"]) == (1, dc)
    assert mesh.json("endpoints")["dashboard"] == urls(mesh)[0]
    assert f"look at it:   {urls(mesh)[0]}" in mesh.shown


def test_every_role_tells_how_full_its_disk_is(mesh: Mesh) -> None:
    wait_for(lambda: lacks_a_disk(urls(mesh)[0]) == set(), within_s=SOON_S, what="each to tell its disk")


def lacks_a_disk(url: str) -> set[str]:
    rows = [one for each in asked(url)["dcs"].values() for one in each["instances"]]
    assert {one["role"] for one in rows} == set(ROLES)
    return {one["name"] for one in rows if "disk_used" not in one["load"]}


def shows_all(url: str, wanted: dict[str, dict[str, str]]) -> bool:
    return states(url) == wanted


def knows_all(url: str) -> bool:
    return set(states(url)) == set(DCS)


def test_its_page_says_what_isnt_well_until_it_is_mended_and_that_nothing_is_heard(mesh: Mesh) -> None:
    pid = mesh.status()["eu-west-collector-1"]["pid"]
    complaints: list[str] = []
    with contextlib.closing(Relay(int(urls(mesh)[0].rpartition(":")[2]))) as relay, chromium() as browser:
        page = browser.new_page(viewport={"width": 1280, "height": 2000})
        page.set_default_timeout(1000 * SOON_S)
        page.on("pageerror", lambda each: complaints.append(str(each)))
        page.on("console", lambda each: complaints.append(each.text) if each.type == "error" else None)
        page.goto(f"http://127.0.0.1:{relay.port}/")
        sentence, row = page.locator("#says"), page.locator(".instance", has_text="collector-1").first
        sentence.filter(has_text="all is well").wait_for()
        assert set(page.locator("#dcs h3 .foreign").all_inner_texts()) == set(DCS)
        os.kill(pid, signal.SIGSTOP)
        try:
            page.locator("#problem-list li", has_text="collector-1 of eu-west is silent").wait_for()
            page.locator(".instance[data-is=silent][data-still]", has_text="collector-1").wait_for()
            assert "all is well" not in sentence.inner_text()
        finally:
            os.kill(pid, signal.SIGCONT)
        sentence.filter(has_text="all is well").wait_for()
        page.locator("#problems").wait_for(state="hidden")
        assert row.get_attribute("data-is") == "up"
        assert complaints == []
        relay.cut()
        page.locator("#lost", has_text="Not connected to the dashboard").wait_for()
        assert "grayscale" in page.evaluate("getComputedStyle(document.querySelector('main')).filter")
        relay.heal()
        page.locator("body[data-live=live]").wait_for()
        page.locator("#lost").wait_for(state="hidden")
        sentence.filter(has_text="all is well").wait_for()


@pytest.mark.skipif(bool(os.geteuid()), reason="a disk of its own takes root")
def test_its_page_says_that_a_spools_disk_is_full_until_there_is_room(mesh: Mesh) -> None:
    [balancer] = mesh.urls("eu-west", "balancer")
    with chromium() as browser:
        page = browser.new_page()
        page.set_default_timeout(1000 * SOON_S)
        page.goto(urls(mesh)[0])
        page.locator("#says", has_text="all is well").wait_for()
        with full(mesh.state_dir / "eu-west" / "spool"):
            problems = page.locator("#problem-list li")
            problems.filter(
                has_text="the spool of eu-west can't be used, hits are refused: no room on its disk"
            ).wait_for()
            assert "all is well" not in page.locator("#says").inner_text()
            wait_for(lambda: status_of(balancer, "POST", "/hit/full.example/x") == 503, what="a hit to be refused")
        page.locator("#says", has_text="all is well").wait_for()
        page.locator("#problems").wait_for(state="hidden")
    assert status_of(balancer, "POST", "/hit/full.example/x") == 200


def test_who_has_answered_is_said_and_who_knows_what_this_one_does_not(mesh: Mesh) -> None:
    with chromium() as browser:
        page = browser.new_page()
        page.set_default_timeout(1000 * SOON_S)
        page.goto(f"{urls(mesh)[0]}/#page=example.com/x")
        page.locator("#drawer", has_text="answered by dashboard-1 of eu-west").wait_for()
        page.goto(f"{urls(mesh)[0]}/#instance=us-west/collector-1")
        page.locator("#drawer", has_text="only the dashboards of us-west know what collector-1 went through").wait_for()


def test_whoever_is_killed_is_shown_in_the_other_datacenter_too(mesh: Mesh) -> None:
    file = mesh.state_dir / "eu-west" / "hitmesh.toml"
    command = mesh.command("collector", "--config", str(file), "--name", "collector-9")
    with subprocess.Popen(command, stderr=subprocess.DEVNULL, start_new_session=True) as process:
        try:
            for url in urls(mesh):
                wait_for(shows(url, "collector-9", "up"), within_s=SOON_S, what="it to be up")
        finally:
            os.killpg(process.pid, signal.SIGKILL)
    for url in urls(mesh):
        wait_for(shows(url, "collector-9", "silent", "dead"), within_s=SOON_S, what="it to be gone")
        wait_for(lambda url=url: not asked(url)["ok"], within_s=SOON_S, what="it to be said")  # type: ignore[misc]


def events_of(url: str, host: str, count: int) -> list[tuple[str, Any]]:
    """The first events of a stream that doesn't end."""
    connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=SOON_S)
    with contextlib.closing(connection):
        connection.request("GET", "/events", headers={"Host": host})
        answer = connection.getresponse()
        assert (answer.status, answer.headers["content-type"]) == (200, "text/event-stream")
        found = b""
        while found.count(b"\n\n") < count:
            data = answer.read1(65_536)
            assert data, "it ended"
            found += data
    events = re.findall(rb"event: (\w+)\ndata: (.*)\n\n", found)
    return [(name.decode(), json.loads(data)) for name, data in events]


def test_behind_a_balancer_it_is_found_by_its_host_and_streams_without_waiting(mesh: Mesh) -> None:
    [admin], [balancer] = mesh.urls("us-west", "balancer_admin"), mesh.urls("us-west", "balancer")
    route = '{"action": "proxy", "service": "dashboard"}'
    assert status_of(admin, "PUT", f"/routes/{HOST}", route) in {200, 201}
    wait_for(lambda: status_of(balancer, "GET", "/status.json", host=HOST) == 200, within_s=SOON_S, what="the route")
    assert asked(balancer, host=HOST)["seen_from"]["dc"] == "us-west"
    found = events_of(balancer, HOST, 8)
    assert found[0][0] == "status"
    assert set(found[0][1]["dcs"]["eu-west"]["instances"]) >= {f"{role}-1" for role in ROLES}
    ticks = [data["now"] for name, data in found if name == "tick"]
    assert len(ticks) >= 2
    assert ticks == sorted(set(ticks))


def test_a_dashboard_that_is_stopped_or_killed_costs_nobody_a_hit(mesh: Mesh) -> None:
    [balancer] = mesh.urls("eu-west", "balancer")
    pids = [one["pid"] for name, one in mesh.status().items() if "dashboard" in name]
    over = threading.Event()
    answers: list[int] = []
    load = threading.Thread(target=lambda: answers.extend(hits(balancer, over)))
    load.start()
    try:
        os.kill(pids[0], signal.SIGSTOP)
        os.kill(pids[1], signal.SIGKILL)
        wait_for(lambda: dashboards(mesh, besides=pids), within_s=SOON_S, what="another one in its place")
        os.kill(pids[0], signal.SIGCONT)
    finally:
        over.set()
        load.join()
    assert len(answers) > 10
    assert set(answers) == {200}
    wait_for(lambda: settled(mesh), within_s=SOON_S, what="all hits to be committed")
    assert {each["page"]: each["total"] for each in mesh.json("top")}["load.example/x"] == len(answers)
    for url in urls(mesh):
        wait_for(partial(knows_all, url), within_s=SOON_S, what="each to know both again")


def dashboards(mesh: Mesh, besides: list[int]) -> bool:
    found = [one for name, one in mesh.status().items() if "dashboard" in name and one["state"] == "up"]
    return any(one["pid"] not in besides for one in found)


def hits(url: str, over: threading.Event) -> list[int]:
    answers = []
    connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=SOON_S)
    with contextlib.closing(connection):
        while not over.wait(0.01):
            connection.request("POST", "/hit/load.example/x")
            answer = connection.getresponse()
            answer.read()
            answers.append(answer.status)
    return answers


def test_it_ends_at_once_and_sends_whoever_listens_away(mesh: Mesh) -> None:
    file = mesh.state_dir / "eu-west" / "hitmesh.toml"
    command = mesh.command("dashboard", "--config", str(file), "--name", "dashboard-9")
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
        try:
            wait_for(lambda: len(mesh.urls("eu-west", "dashboard")) == 2, within_s=SOON_S, what="one more")
            url = mesh.urls("eu-west", "dashboard")[1]
            connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=SOON_S)
            with contextlib.closing(connection):
                connection.request("GET", "/events")
                answer = connection.getresponse()
                assert answer.read1(7) == b"event: "
                process.send_signal(signal.SIGTERM)
                assert answer.read().endswith(b"retry: 500\n\n")
            assert process.wait(SOON_S) == 0
        finally:
            process.kill()

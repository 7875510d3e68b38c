"""`hitmesh trace`: asks every collector and processor what it remembers of a hit's way, and shows it in order."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final
from urllib.parse import urlencode, urlsplit

import click
from msgspec import Struct

from hitmesh import config as files
from hitmesh.cli import folder, picture
from hitmesh.cli.journey import Journey, batches, journey, lines
from hitmesh.cli.journey import as_json as json_of
from hitmesh.cli.options import config_option, json_option, state_dir_option
from hitmesh.cli.stderr import warn
from hitmesh.config import Config, Role, host_port_text
from hitmesh.errors import CommandError, DecodeError
from hitmesh.http.access import TRACE
from hitmesh.protocol.pages import trim
from hitmesh.protocol.stations import MAX_ANSWER_BYTES, MAX_ID_CHARS, MAX_IDS, MAX_LAST, Known, PartOf, Told, read_told

ASK_S: Final = 5.0  # for one answer: a busy process gives its hits the time first
AT_ONCE: Final = 16  # processes that are asked
MAX_SHOWN: Final = 400  # parts of one batch that are followed
ROLES: Final[tuple[Role, ...]] = ("collector", "processor")
FORMS: Final = (
    "an ID is a page (site/path, not percent-encoded), a request's X-Request-Id, or a batch's name, WORKER:PARTITION:SEQ, as "
    "this command prints it"
)


class Place(Struct, frozen=True):
    """A process that can be asked."""

    dc: str
    role: Role
    name: str
    url: str
    token: str


@click.command(short_help="Follow a hit from collector to commit, in every datacenter.")
@click.argument("id", metavar="PAGE|BATCH|REQUEST-ID")
@click.option(
    "--last", type=click.IntRange(1, MAX_LAST), default=1, show_default=True, metavar="N", help="How many batches of a page."
)  # fmt: skip
@config_option
@state_dir_option
@json_option
def trace(id: str, last: int, config_path: Path | None, state_dir: Path, as_json: bool) -> None:
    """Follow a hit: when its batch was formed, put into the spool, sent, committed, by whom, and when elsewhere.

    The hit is named by its page, written site/path and not percent-encoded; by the id that a balancer gave its request, as
    its access log and lines of slow requests have it (a client's own counts only if it is trusted); or by its batch, as
    this command prints it. Collectors and processors remember some thousands of batches, in memory: the last seconds of
    a flood, the last hour of quiet traffic. Who can't be asked is said. Times are of each host's own clock.

    \b
    Example:
      hitmesh trace example.com/front
      hitmesh trace example.com/front --last 5 --json | jq '.batches[].stations[].what'
    """
    if len(id) > MAX_ID_CHARS or not id:
        raise CommandError(f"an ID has 1 to {MAX_ID_CHARS} characters", hint=FORMS)
    configs = [files.load(config_path)] if config_path else folder.datacenters(state_dir)
    places, unasked = _places(configs)
    with ThreadPoolExecutor(AT_ONCE) as pool:
        told = _asked(pool, places, [[id]] if trim(id) == id else [[id, trim(id)]], last, unasked)
        found, more = batches(told, last)
        answered = {(one.dc, one.name) for one in told}
        places = [each for each in places if (each.dc, each.name) in answered]  # who is silent is waited for once
        # The name of a batch is that of its first part: all of it is meant.
        journeys = [
            _followed(pool, places, known, known.parts if id == known.name else known.matches, unasked)
            for known in found
        ]
    notes = list(dict.fromkeys(unasked))
    if as_json:
        print(json.dumps({"batches": [json_of(each) for each in journeys], "more": more, "unasked": notes}, indent=2))
    else:
        for note in notes:
            warn(note)
    if not journeys:
        who = f"none of the {len(told)} processes that answered remembers {id}" if told else "nobody could be asked"
        raise CommandError(who, hint=FORMS)
    if not as_json:
        print("\n\n".join("\n".join(lines(each)) for each in journeys))
        if more:
            print(f"\n{_more(more, len(found))}")


def _more(more: int, shown: int) -> str:
    whole = shown + more
    how = f"--last {whole} shows them" if whole <= MAX_LAST else f"--last {MAX_LAST} shows the newest"
    return f"{more} more {'batch is' if more == 1 else 'batches are'} remembered: {how}"


def _followed(
    pool: ThreadPoolExecutor, places: Sequence[Place], known: Known, parts: Sequence[PartOf], unasked: list[str]
) -> Journey:
    """What everybody tells of these parts of a batch."""
    shown = parts[:MAX_SHOWN]
    names = [f"{known.worker}:{partition}:{seq}" for partition, seq in shown]
    collectors = [place for place in places if place.role == "collector"]
    others = [place for place in places if place.role != "collector"]
    chunks = [names[start : start + MAX_IDS] for start in range(0, len(names), MAX_IDS)]
    # A collector knows a batch whole, by any part of it.
    told = _asked(pool, collectors, [names[:1]], 1, unasked) + _asked(pool, others, chunks, 1, unasked)
    return journey(known, shown, told)


def _places(configs: Iterable[Config]) -> tuple[list[Place], list[str]]:
    """Who can be asked, and in words who can't."""
    places: list[Place] = []
    unasked: list[str] = []
    for config in configs:
        answer = picture.ask(config)
        if answer is None:
            unasked.append(f"no Nexus of {config.name} answers: only the configured instances are asked there")
        for role in ROLES:
            urls: dict[str, str | None] = {}
            for one in config.instances(role):
                at = f"http://{host_port_text(one.address, one.admin_port)}" if one.admin_port else None
                urls[one.name] = at
            for seen in picture.alive(answer, role):
                urls[seen.instance.name] = seen.instance.endpoints.get("admin") or urls.get(seen.instance.name)
            for name, url in urls.items():
                if url is None:
                    unasked.append(f"{name} of {config.name} has no admin port: ports.{role}_admin gives it one")
                else:
                    places.append(Place(config.name, role, name, url, config.dashboard.token))
    return places, unasked


def _asked(
    pool: ThreadPoolExecutor, places: Sequence[Place], ids: Sequence[Sequence[str]], last: int, unasked: list[str]
) -> list[Told]:
    """What they tell, each of all `ids`; who doesn't answer is added to `unasked`."""
    questions = [(place, some) for place in places for some in ids]
    told = []
    for answer in pool.map(lambda question: _ask(question[0], question[1], last), questions):
        if isinstance(answer, Told):
            told.append(answer)
        else:
            unasked.append(answer)
    return told


def _ask(place: Place, ids: Sequence[str], last: int) -> Told | str:
    """What one process tells, or why it doesn't."""
    query = urlencode([*(("id", each) for each in ids), ("last", str(last))], errors="replace")
    fields = {"Authorization": f"Bearer {place.token}"} if place.token else {}
    connection = http.client.HTTPConnection(urlsplit(place.url).netloc, timeout=ASK_S)
    why = ""
    try:
        connection.request("GET", f"{TRACE}?{query}", headers=fields)
        answer = connection.getresponse()
        body = answer.read(MAX_ANSWER_BYTES + 1)
        if answer.status == http.client.OK and len(body) <= MAX_ANSWER_BYTES:
            return read_told(body)
        why = (
            f"{answer.status} {body[:300].decode('utf-8', 'replace')}" if len(body) <= MAX_ANSWER_BYTES else "too much"
        )
    except TimeoutError:
        why = f"nothing within {ASK_S:g} s"
    except (OSError, http.client.HTTPException, DecodeError) as error:
        why = getattr(error, "strerror", None) or str(error)
    finally:
        connection.close()
    return f"{place.name} of {place.dc} doesn't answer: {why}"

"""A list of a million pages must not keep the hits waiting; in a process of its own, patched by gevent."""

from __future__ import annotations

import subprocess
import sys

import pytest

CODE = """
import gevent.monkey
gevent.monkey.patch_all()
import gevent
import json
import falcon, falcon.testing
from types import SimpleNamespace
from hitmesh.collector import app
from hitmesh.collector.listed import Listed
from hitmesh.store.totals import Listing

ident = gevent.monkey.get_original("_thread", "get_ident")
threads = []
class Spied(Listed):
    def __iter__(self):
        threads.append(ident())
        return super().__iter__()

gevent.get_hub()
listing = Listing({f"s/{n:03}": {"x": n % 10} for n in range(100)}, frozenset(), frozenset(), frozenset(), {})
listed = Spied(listing, {}, dc="x", partitions=32, read_s=0.0, now_s=0.0)
totals = app.Totals(SimpleNamespace(all_totals=lambda: listed), SimpleNamespace(retired=frozenset()))
answer = falcon.Response()
totals.on_get(falcon.testing.create_req(query_string="QUERY"), answer)
print(json.dumps({page["page"]: page["total"] for page in json.loads(answer.data)["totals"]}))
assert threads and ident() not in threads, "the pages were gone through on the hub"
"""


@pytest.mark.parametrize(
    ("query", "pages"),
    [
        ("sort=top&limit=3", {"s/009": 9, "s/019": 9, "s/029": 9}),
        ("limit=2&after=s/050", {"s/051": 1, "s/052": 2}),
    ],
)
def test_a_list_is_made_in_a_thread(query: str, pages: dict[str, int]) -> None:
    command = [sys.executable, "-c", CODE.replace("QUERY", query)]
    answer = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    assert answer.strip() == str(pages).replace("'", '"')

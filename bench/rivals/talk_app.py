"""Flask under uWSGI, one beanstalkd job for each hit; `talk_worker` counts them in Consul, one write a job."""

from __future__ import annotations

import os
from functools import cache

from flask import Flask, jsonify
from flask.wrappers import Response
from greenstalk import Client

app = Flask(__name__)


@cache
def _client() -> Client[str]:
    return Client(("127.0.0.1", int(os.environ["BEANSTALKD_PORT"])))


def hit(page: str) -> Response:
    """Put the hit; that it will be counted is all that is known then."""
    return jsonify(page=page, job=_client().put(page))


app.add_url_rule("/hit/<path:page>", view_func=hit, methods=["GET", "POST"])

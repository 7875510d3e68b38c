"""Falcon under gunicorn's gevent worker, one INCR in Redis for each hit: `gunicorn -k gevent bench.rivals.falcon_app:app`."""

from __future__ import annotations

import os

import falcon
from falcon import Request, Response
from redis import BlockingConnectionPool, Redis

CONNECTIONS = 64  # to Redis: as many as the load has, so that its syncs serve many hits at once
WAIT_S = 20


class Hit:
    """GET or POST /hit/<page>."""

    def __init__(self) -> None:
        pool = BlockingConnectionPool(
            port=int(os.environ["REDIS_PORT"]), max_connections=CONNECTIONS, timeout=WAIT_S, protocol=2
        )
        self._redis = Redis(connection_pool=pool)

    def on_get(self, req: Request, resp: Response, page: str) -> None:
        """Count, then answer with the total."""
        resp.media = {"page": page, "total": self._redis.incr(page)}

    on_post = on_get


app: falcon.App[Request, Response] = falcon.App()
app.add_route("/hit/{page:path}", Hit())

"""What the same gunicorn and Falcon do when nothing is counted: the bench's yardstick."""

from __future__ import annotations

import falcon
from falcon import Request, Response

BODY = b'{"page":"example.com/front","total":1,"dcs":{"bench":{"count":1,"age_s":0.0}}}'


class Constant:
    """Answers every hit alike."""

    def on_post(self, req: Request, resp: Response, page: str) -> None:
        """A body of the usual size."""
        resp.data = BODY
        resp.content_type = "application/json"
        resp.cache_control = ("no-store",)

    on_get = on_post


app: falcon.App[Request, Response] = falcon.App(cors_enable=True)
app.add_route("/hit/{page:path}", Constant())

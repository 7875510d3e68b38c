"""Takes hits from beanstalkd, one after the other, and counts each in Consul's KV under compare-and-set.

Its arguments are the ports of both. It ends by SIGTERM, between two system calls wherever it is: a job that isn't
deleted comes again.
"""

from __future__ import annotations

import base64
import json
import sys

import urllib3
from greenstalk import Client


def main(beanstalkd: int, consul: int) -> None:
    """Count for ever."""
    jobs = Client(("127.0.0.1", beanstalkd))
    http = urllib3.HTTPConnectionPool("127.0.0.1", consul)
    while True:
        job = jobs.reserve()
        path = f"/v1/kv/{job.body}"
        while True:
            found = http.request("GET", path)
            count, index = 0, 0
            if found.status == 200:
                row = json.loads(found.data)[0]
                count, index = int(base64.b64decode(row["Value"])), row["ModifyIndex"]
            if http.request("PUT", f"{path}?cas={index}", body=str(count + 1)).data.strip() == b"true":
                break
        jobs.delete(job)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))

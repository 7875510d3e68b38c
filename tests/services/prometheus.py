"""A real Prometheus, which scrapes what a file says."""

from __future__ import annotations

import json
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

from tests.services import PATIENCE_S, Server, free_port, require


class Prometheus(Server):
    """One server, with the targets and rules that it is given; it looks at them each second."""

    name = "prometheus"

    def __init__(self, folder: Path, *, targets: str, rules: Path) -> None:
        super().__init__(folder)
        self.port = free_port()
        (folder / "targets.json").write_text(targets)
        config = {
            "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
            "rule_files": [str(rules)],
            "scrape_configs": [{"job_name": "hitmesh", "file_sd_configs": [{"files": ["targets.json"]}]}],
        }
        (folder / "prometheus.yml").write_text(json.dumps(config))

    def command(self) -> list[str]:
        return [
            require("prometheus"),
            f"--config.file={self.folder}/prometheus.yml",
            f"--storage.tsdb.path={self.folder}/data",
            f"--web.listen-address=127.0.0.1:{self.port}",
        ]

    def is_up(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/-/ready", timeout=PATIENCE_S) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    def ask(self, path: str, **query: str) -> Any:
        """The data of an answer of its API."""
        url = f"http://127.0.0.1:{self.port}/api/v1/{path}?{urllib.parse.urlencode(query)}"
        with urllib.request.urlopen(url, timeout=PATIENCE_S) as answer:
            return json.load(answer)["data"]

    def query(self, expr: str) -> list[Any]:
        """The vector of an expression, as of now."""
        result: list[Any] = self.ask("query", query=expr)["result"]
        return result

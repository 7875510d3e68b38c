"""The API's document is true: schemathesis asks a real collector whatever it allows, and what it doesn't."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.services import wait_for
from tests.system.mesh import Mesh

EXAMPLES = "20"  # for each thing that can be asked
# What is valid as a text may be no page, and no SVG's parameter forbids others beside it.
NOT_CHECKED = "positive_data_acceptance,negative_data_rejection"
SHOWN_CHARS = 300


def test_every_answer_is_one_that_the_document_has(mesh: Mesh, tmp_path: Path) -> None:
    url = "http://{}:{}".format(*mesh.address())
    done = subprocess.run(
        [
            Path(sys.executable).with_name("st"), "run", f"{url}/openapi.json", "--url", url, "--max-examples", EXAMPLES,
            "--exclude-checks", NOT_CHECKED, "--no-color",
        ],
        capture_output=True, text=True, check=False, cwd=tmp_path,
        env={**os.environ, "SCHEMATHESIS_HOOKS": "tests.hitmesh.collector.openapi_hooks", "PYTHONPATH": str(Path.cwd())},
    )  # fmt: skip
    said = "\n".join(line[:SHOWN_CHARS] for line in (done.stdout + done.stderr).splitlines())
    assert done.returncode == 0, said
    assert "Tested: 11" in said, said
    wait_for(mesh.is_settled, what="the spool to be empty")

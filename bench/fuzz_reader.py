"""The reader of requests under Atheris, which looks for bytes that take new ways through its code.

    .venv/bin/python -m pip install atheris         # where it has a wheel; nothing else needs it
    .venv/bin/python -m bench.fuzz_reader FOLDER -max_total_time=600
    .venv/bin/python -m bench.fuzz_reader FOLDER/crash-...

FOLDER keeps what was found, and gets the tests' corpus to begin with. All further options are
libFuzzer's. It ends at the first bytes that the reader and the tests' oracle read differently, be
they fed whole or in pieces, and at whatever the reader raises that isn't a BadMessage.
"""

from __future__ import annotations

import importlib
import random
import sys
from pathlib import Path

LONGEST = 8192  # bytes: limits are the corpus's matter


def main() -> int:
    """Run it; libFuzzer ends the process."""
    try:
        atheris = importlib.import_module("atheris")
    except ImportError:
        print("atheris is not installed", file=sys.stderr)
        return 1
    with atheris.instrument_imports(include=["hitmesh.http"]):
        import hitmesh.http.requests  # noqa: F401 - whoever imports it later gets the instrumented one
    from tests.balancer.wire.corpus import HOSTS, in_pieces, named_cases
    from tests.balancer.wire.oracle import read
    from tests.balancer.wire.test_reader import OWN, check

    def once(data: bytes) -> None:
        reading = read(data, own=OWN)
        check([data], reading)
        check(in_pieces(data, random.Random(len(data))) if data else [], reading)

    folder = next((Path(each) for each in sys.argv[1:] if not each.startswith("-")), None)
    if folder is None:
        print(__doc__, file=sys.stderr)
        return 2
    if not folder.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        seeds = [*HOSTS, *(case.sent for case in named_cases() if len(case.sent) <= LONGEST)]
        for number, seed in enumerate(seeds):
            (folder / f"seed-{number}").write_bytes(seed)
    atheris.Setup([*sys.argv, f"-max_len={LONGEST}"], once)
    atheris.Fuzz()
    return 0


if __name__ == "__main__":
    sys.exit(main())

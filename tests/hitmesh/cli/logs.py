"""An access log for the tests: the real one where it lies beside the checkout, else one of its shape."""

from __future__ import annotations

import os
import random
from pathlib import Path

LINES = 10_000
PATHS = 1_400
# What a real log has beside ordinary paths: escapes, no UTF-8, control characters, odd segments.
ODD = ("/caf%C3%A9", "/a%20b", "/%E8%F1%EF", "/vim/%094", "/a//b", "/x?page=2&y=%", "/..%2fetc", "/q;s=1", "/100%")


def access_log(folder: Path) -> Path:
    """A log of LINES hits in the combined format, the last one cut off behind its request."""
    real = Path(os.environ.get("HITMESH_ACCESS_LOG", Path(__file__).parents[4] / "shared" / "data" / "access.log"))
    if real.exists():
        return real
    draw = random.Random(2015)
    paths = [*ODD, *(f"/section-{n % 37}/page-{n}.html" for n in range(PATHS - len(ODD)))]
    weights = [1 / (rank + 1) for rank in range(PATHS)]  # Zipf's
    lines = [
        f'192.0.2.{n % 250} - - [17/May/2015:10:05:03 +0000] "GET {path} HTTP/1.1" 200 1234 "-" "Mozilla/5.0 (x; y)"'
        for n, path in enumerate(draw.choices(paths, weights, k=LINES))
    ]
    lines[-1] = lines[-1][: lines[-1].index("HTTP/1.1") + 20]
    made = folder / "access.log"
    made.write_text("\n".join(lines) + "\n")
    return made

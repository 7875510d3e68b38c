"""`python -m hitmesh.deploy.host`: the host program."""

from __future__ import annotations

import sys

from hitmesh.deploy.host.main import main

if __name__ == "__main__":
    sys.exit(main())

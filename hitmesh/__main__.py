"""Where the `hitmesh` command begins: patches for gevent before anything else is imported.

Nothing but the standard library's sys may be imported above, and os and io by `startup`: a module that has
taken the blocking socket or lock would keep it.
"""

import sys

# The commands that run on gevent. A collector is a gunicorn master, which must not: its worker
# patches itself after the fork. The others work without, and start faster.
PATCHED = (["processor"], ["dashboard"], ["recorder"], ["scaler"], ["replay"], ["alerts", "test"])


def main() -> None:
    """Run the command line and exit with its status."""
    from hitmesh.startup import patch, prepare

    prepare()
    if any(sys.argv[1 : 1 + len(each)] == each for each in PATCHED) and "--help" not in sys.argv:
        patch()
    from hitmesh.cli.main import run

    sys.exit(run())


if __name__ == "__main__":
    main()

"""`balancer` and `python -m balancer`: one program for the master and, with --worker, its workers.

A worker runs on gevent, which must patch before anything else is imported; the check that a new
version would start does as a worker does. A master must not be patched: it waits for signals.
"""

import sys

PATCHED = ("--worker", "--check")


def main() -> None:
    """Run the command line and exit with its status."""
    from hitmesh.startup import patch, prepare

    prepare()
    if any(option in sys.argv for option in PATCHED):
        if "--worker" in sys.argv:
            import signal

            # Ctrl-C, and a closed terminal, are sent to all processes of it: what they mean is the master's to say.
            for number in (signal.SIGINT, signal.SIGHUP, signal.SIGUSR2):
                signal.signal(number, signal.SIG_IGN)
        patch()  # connections with TLS are driven by the hub's watchers, never by waiting
    from balancer.main import run

    sys.exit(run())


if __name__ == "__main__":
    main()

"""`nexus` and `python -m nexus`: gevent patches the process before anything else is imported."""

from hitmesh.startup import patch

patch()

from nexus.main import main

if __name__ == "__main__":
    main()

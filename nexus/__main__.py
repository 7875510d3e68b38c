"""`nexus` and `python -m nexus`: gevent patches the process before anything else is imported."""

from gevent import monkey

# Nothing here speaks TLS, and the ssl module is slow to import.
monkey.patch_all(ssl=False)

from nexus.main import main

if __name__ == "__main__":
    main()

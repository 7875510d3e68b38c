"""Two real Nexuses for these tests."""

from tests.services.nexus import nexus_processes, nexuses

__all__ = ["nexus_processes", "nexuses"]

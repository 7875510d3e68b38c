"""Two real Nexuses for these tests."""

from tests.hitmesh.mesh.nexuses import nexus_processes
from tests.services.nexus import nexuses

__all__ = ["nexus_processes", "nexuses"]

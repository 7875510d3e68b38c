"""The HTTP balancer in front of a datacenter's collectors."""

import hitmesh  # noqa: F401 - which finds the modules that are compiled

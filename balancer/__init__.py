"""The HTTP balancer in front of a datacenter's collectors."""

"""Metrics for Prometheus: what a role counts, as families of samples, and the listener that tells them.

`families` makes samples of figures, `text` what is sent of them, `admin` serves that. Which figures a role has, and under
which names, is the role's own: `metrics.py` in its package. docs/operations/metrics.md has them all.
"""

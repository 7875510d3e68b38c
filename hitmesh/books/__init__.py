"""The books of a datacenter: what was accepted, committed, spooled and is in flight, and whether that fits together.

`audit` and `copies` are the arithmetic; `reading` looks at stores and spools for it. The command `hitmesh audit` reads
them once, a dashboard again and again.
"""

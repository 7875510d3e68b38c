"""The dashboard role: what all datacenters look like now and have looked like, to people and programs that may only look.

Every datacenter has its own, which watches that datacenter alone (`Part`) and tells the others' of it. Each shows all
parts that it has heard of (`Status`). It writes to nothing that it shows.
"""

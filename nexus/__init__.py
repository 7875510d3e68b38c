"""The Nexus: the resolver of a mesh. Who is alive, where, with what load; who owns which partition.

`registry` owns what one Nexus knows (pure; `records` keeps it within bounds), `federation` which other
datacenters there are and what they are told (pure), `server` its sockets, `wan` the one that speaks to
other datacenters, `catalogue` finding them by Consul (`entries` is its pure part), `exchange` the live
settings that go between them, `main` the process. It holds only soft state, rebuilt from heartbeats
within two intervals; several run side by side and don't need each other.
"""

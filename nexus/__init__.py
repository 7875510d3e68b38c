"""The Nexus: the resolver of a mesh. Who is alive, where, with what load; who owns which partition.

`registry` owns what one Nexus knows (pure), `server` its sockets, `main` the process. It holds
only soft state, rebuilt from heartbeats within two intervals; several run side by side and don't
need each other.
"""

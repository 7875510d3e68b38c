"""The processes of an instance: a master that owns the sockets, and the workers that it starts."""

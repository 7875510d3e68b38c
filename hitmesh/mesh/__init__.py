"""A role's link to the Nexuses: heartbeats out, changes in, lookups. The only I/O about who is where."""

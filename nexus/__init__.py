"""The Nexus: who is alive, where, with what load. Soft state only, rebuilt from heartbeats."""

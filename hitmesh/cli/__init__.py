"""The `hitmesh` command: everything a user types."""

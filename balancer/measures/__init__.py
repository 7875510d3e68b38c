"""What a worker counts and writes of its requests."""

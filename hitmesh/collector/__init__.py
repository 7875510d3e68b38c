"""The collector: takes hits over HTTP, spools them, pushes them to the partitions' owners."""

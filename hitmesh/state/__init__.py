"""State that more than one role keeps: pure, driven by messages and a `now` argument."""

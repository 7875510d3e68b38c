"""Side by side with other systems, in turns, in one run. Absolute figures are for reading only."""

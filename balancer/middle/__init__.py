"""A request's way from a client to a backend, and its answer's way back: pure, told what happens and when."""

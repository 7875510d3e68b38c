"""What goes over the wire and into the stores, as bytes: pure, no sockets, no clock.

`pages` owns page names and their partitions; `messages` every frame, job and head. The
formats are written down in docs/protocol.md, and one table of golden bytes in the tests
drives encoder and decoder.
"""

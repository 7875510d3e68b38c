"""The balancer behind a virtual IP, which keepalived moves between hosts.

Each worker says, twenty times a second, that it lives and when it last reached a collector (`reach`, `word`); a program
beside the balancer looks at that and tells keepalived (`check`, `judging`). So nobody has to ask, and silence is an
answer too.
"""

"""HTTP/1.1 framing: bytes in, bytes out. Shared by the balancer and the collector's worker.

Owns what the bytes of a connection mean (RFC 9112) and which of them are refused; knows no
socket, no clock, no route. Everything that is wrong with a peer's bytes is a BadMessage. The
rules and their sources are in docs/http.md.
"""

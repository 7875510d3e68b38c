"""From a datacenter's file to hosts that run it: what `fab` does, and the program on each host that does it there.

What is decided is pure (`fleet`, `plan`, `gates`, `render`); what is done is in `runner` on the operator's machine,
and in `host` on the hosts.
"""

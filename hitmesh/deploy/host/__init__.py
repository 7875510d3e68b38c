"""The host program, `hitmesh-host`: what a deploy does on a host, as root, through one rule of sudo.

It believes nothing that it is given. Whoever may call it, the deploy user, brings releases, which run as the roles'
users, and files of known kinds, and starts and stops programs; nothing that it is given is ever run as root.
"""

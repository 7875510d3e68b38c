"""The recorder: keeps what the roles of its datacenter log and count. Nobody needs it, and nobody waits for it.

`blocks` and `pending` are pure; `volumes` are its files, `keeping` writes them, `recorder` is all of it together, and
`main` the process. `postgresql` takes the statistics of each minute to a database; `reading` is for those who read.
"""

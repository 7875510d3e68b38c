"""The links between processes, over ZeroMQ: thin I/O around state.view.

`client` sends a role's heartbeats (`pulse`) and follows the Changes; `lookup` asks one question.
`pipes` carries batches and acks between roles. Under gevent one greenlet reads each socket, and
takes the process with it when it dies (`duty`); nothing here uses the green Poller
(zeromq/pyzmq#2167).
"""

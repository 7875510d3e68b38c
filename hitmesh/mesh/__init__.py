"""The link of every role to the Nexuses, over ZeroMQ: thin I/O around state.view.

`client` sends a role's heartbeats and follows the Changes; `lookup` asks one question. Under
gevent one greenlet reads each socket; nothing here uses the green Poller (zeromq/pyzmq#2167).
"""

"""Connections driven by gevent's hub: watchers and callbacks, no greenlets."""

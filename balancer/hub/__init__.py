"""The middle's connections and deadlines on gevent's hub."""

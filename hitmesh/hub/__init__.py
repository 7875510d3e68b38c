"""What lives with gevent's hub: connections driven by its watchers, calls that would block it, what is written."""

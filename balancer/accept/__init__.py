"""From the listening socket to a client: connections are taken, what comes before HTTP is read, TLS is spoken."""

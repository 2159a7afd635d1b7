"""Pages in a browser: the loopback server, and the report."""

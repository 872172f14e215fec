"""Attacks on a server process: the bodies, the connections, and what watches the server meanwhile."""

"""Attacks on a server process by bodies and connections, and the watches on its memory and pauses."""

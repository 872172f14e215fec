"""The part of the server that knows BentoML and its quirks."""

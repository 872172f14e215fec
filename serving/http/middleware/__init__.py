"""ASGI middleware, one concept a file; `serving/http/application.py` puts them in order."""

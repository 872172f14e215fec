"""ASGI middleware, one concept a file; `serving/http/application.py` and `guards.py` put them in order.

A middleware with nothing to do after the app inside is a plain function that returns what this app returns: a coroutine
of its own would only take time.
"""

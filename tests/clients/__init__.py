"""The real clients of the Open Inference Protocol, against real servers: `make clients`.

They run in an environment of their own, in which nothing of the server's can be imported.
"""

"""Tiffin against what users would deploy instead, each peer in a virtual environment of its own."""

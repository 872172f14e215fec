"""Tiffin compared with what users would deploy instead, each peer in a virtual environment of its own."""

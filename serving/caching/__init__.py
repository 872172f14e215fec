"""Caches: in memory and in Redis, and what of them a prediction is looked up in."""

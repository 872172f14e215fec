"""Caches in memory and in Redis, and the prediction cache that combines them."""

"""The container image: how it is made, what is in it."""

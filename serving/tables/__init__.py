"""Readers of files of rows, for every model, by its columns."""

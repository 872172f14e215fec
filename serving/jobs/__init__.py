"""Background jobs: files of rows that clients submit, and the workers that answer them, a chunk of rows at a time."""

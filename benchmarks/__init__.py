"""Benchmarks: speed measured against something else in the same run, printed as ratios."""

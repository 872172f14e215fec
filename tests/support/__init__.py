"""Shared by the tests: rows, photos, clocks, servers, stores, processes. Tests import from here, not each other."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

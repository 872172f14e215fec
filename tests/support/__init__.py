"""What tests share: rows, photos, clocks, servers, stores, processes. Tests import from here, not from each other."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

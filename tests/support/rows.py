"""Example rows of the tabular models, and their files."""

from __future__ import annotations

import io
from typing import Any

import pyarrow as pa
import pyarrow.parquet

from loadtest.inputs import TUMOUR as TUMOUR

ROW: dict[str, Any] = {
    **{f"x{i}": round(0.37 * i - 11, 3) for i in range(100)},
    "x5": "monday",
    "x12": "$5,547.78",
    "x31": "germany",
    "x63": "36.29%",
    "x81": "October",
    "x82": "Female",
    "x99": -60.3,
}
OTHER_ROW = ROW | {"x5": "sunday", "x12": "($66.55)", "x31": None, "x91": None, "x53": 0.8}


def written(table: Any) -> bytes:
    """Encode a table as a Parquet file."""
    file = io.BytesIO()
    pa.parquet.write_table(table, file)
    return file.getvalue()

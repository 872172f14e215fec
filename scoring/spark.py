"""Score rows on Spark: a column function, a function of data frames, and a program for spark-submit.

spark-submit scoring/spark.py --model segmentation:latest --input customers.parquet --output scored
"""

from __future__ import annotations

import sys
from pathlib import Path

if __name__ == "__main__":  # spark-submit knows this file, not the package that it stands in
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from scoring.spark_command import main
from scoring.spark_frames import predict_udf, score_frame

__all__ = ["predict_udf", "score_frame"]

if __name__ == "__main__":
    sys.exit(main())

"""Score a CSV file of customers with pandas and statsmodels: python tabular_files.py frames|requests IN OUT.

`frames` predicts chunks of 10 000 rows as data frames, as a notebook would. `requests` asks the service's own function
for each chunk, with a list of rows as clients send it, but without HTTP.
"""

from __future__ import annotations

import sys

import pandas as pd
from fastapi_tabular import THRESHOLD, Rows, glm, imputer, parse, scaler, segment, variables

ROWS = 10_000


def frames(frame: pd.DataFrame) -> pd.DataFrame:
    """Return a chunk with its probabilities and classes."""
    probability = glm.predict(variables(parse(frame.reset_index(drop=True)), imputer, scaler))
    return frame.assign(class_probability=probability.to_numpy(), predicted_class=(probability > THRESHOLD).to_numpy())


def requests(frame: pd.DataFrame) -> pd.DataFrame:
    """Return a chunk with what the service answers for its rows."""
    rows = frame.astype(object).where(frame.notna(), None).to_dict("records")
    answer = segment(Rows.model_validate({"data": rows}))
    return frame.assign(class_probability=answer.class_probability, predicted_class=answer.predicted_class)


if __name__ == "__main__":
    way, source, target = sys.argv[1:]
    chunks = pd.read_csv(source, dtype={"x12": "string", "x63": "string"}, chunksize=ROWS)
    with open(target, "w", encoding="utf-8", newline="") as file:  # noqa: PTH123
        for number, chunk in enumerate(chunks):
            scored = (frames if way == "frames" else requests)(chunk)
            scored.to_csv(file, index=False, header=number == 0)

"""breast_cancer and segmentation on FastAPI, pandas and fitted estimators, as when a notebook becomes a service.

`python fastapi_tabular.py` fits the GLM and its preprocessing on the rows in MODEL/segmentation.csv.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import joblib
import pandas as pd
import statsmodels.api as sm
from fastapi import FastAPI
from pydantic import BaseModel, create_model
from sklearn.impute import SimpleImputer
from sklearn.preprocessing import StandardScaler

FOLDER = Path(os.environ["MODEL"])
# The published GLM's categories and threshold.
CATEGORICAL = ["x5", "x31", "x81", "x82"]
NUMERIC = [f"x{i}" for i in range(100) if f"x{i}" not in CATEGORICAL]
THRESHOLD = 0.75
VARIABLES: list[str] = json.loads((FOLDER / "variables.json").read_text(encoding="utf-8"))


def parse(frame: pd.DataFrame) -> pd.DataFrame:
    """Parse numbers from amounts such as '$5,547.78' and percentages such as '36.29%'."""
    frame["x12"] = frame["x12"].str.replace(r"[$,)]", "", regex=True).str.replace("(", "-").astype(float)
    frame["x63"] = frame["x63"].str.replace("%", "").astype(float)
    frame[NUMERIC] = frame[NUMERIC].astype(float)
    return frame


def variables(frame: pd.DataFrame, imputer: SimpleImputer, scaler: StandardScaler) -> pd.DataFrame:
    """Return the GLM's variables: numbers imputed and standardised, categories as dummies."""
    imputed = pd.DataFrame(imputer.transform(frame[NUMERIC]), columns=NUMERIC)
    numbers = pd.DataFrame(scaler.transform(imputed), columns=NUMERIC)
    dummies = [pd.get_dummies(frame[name], prefix=name, dtype=float).reset_index(drop=True) for name in CATEGORICAL]
    return pd.concat([numbers, *dummies], axis=1).reindex(columns=VARIABLES, fill_value=0.0)


def fit() -> None:
    """Fit the GLM and its preprocessing on the rows of the training data, and save them."""
    frame = pd.read_csv(FOLDER / "segmentation.csv", dtype={"x12": "string", "x63": "string"})
    parse(frame)
    imputer = SimpleImputer().fit(frame[NUMERIC])
    scaler = StandardScaler().fit(pd.DataFrame(imputer.transform(frame[NUMERIC]), columns=NUMERIC))
    glm = sm.GLM(frame["y"], variables(frame, imputer, scaler), family=sm.families.Binomial()).fit()
    glm.remove_data()
    joblib.dump((imputer, scaler, glm), FOLDER / "segmentation.joblib")


app = FastAPI()


class Measurements(BaseModel):
    """Measurements of a tumour."""

    concavity_mean: float
    concave_points_mean: float
    perimeter_se: float
    area_se: float
    texture_worst: float
    area_worst: float


class Diagnosis(BaseModel):
    """M (1) for malignant, B (0) for benign."""

    label: str
    prediction: int


# Declared, as FastAPI's documentation advises, so that a bad value is refused with 422 and not answered with 500.
COLUMNS = [f"x{i}" for i in range(100)]
TEXT = ["x12", "x63", *CATEGORICAL]
Row = create_model("Row", **{name: (str | None if name in TEXT else float | None, None) for name in COLUMNS})


class Rows(BaseModel):
    """Rows of x0 to x99."""

    data: list[Row]


class Segments(BaseModel):
    """A probability and a class per row."""

    class_probability: list[float]
    predicted_class: list[int]
    input_variables: list[str]


if __name__ == "__main__":
    fit()
else:
    ensemble = joblib.load(FOLDER / "breast_cancer.joblib")
    imputer, scaler, glm = joblib.load(FOLDER / "segmentation.joblib")


@app.post("/breast_cancer/predict")
def diagnose(request: Measurements) -> Diagnosis:
    """Diagnose one tumour."""
    prediction = int(ensemble.predict(pd.DataFrame([request.model_dump()]))[0])
    return Diagnosis(label="BM"[prediction], prediction=prediction)


@app.post("/segmentation/predict")
def segment(request: Rows) -> Segments:
    """Score rows."""
    frame = pd.DataFrame([row.model_dump() for row in request.data], columns=COLUMNS)
    frame[["x12", "x63"]] = frame[["x12", "x63"]].astype("string")
    probability = glm.predict(variables(parse(frame), imputer, scaler))
    return Segments(
        class_probability=probability.tolist(),
        predicted_class=(probability > THRESHOLD).astype(int).tolist(),
        input_variables=VARIABLES,
    )

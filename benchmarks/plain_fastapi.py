"""What Tiffin is measured against: FastAPI endpoints of the same schemas, without a model and without a cache."""

from __future__ import annotations

from fastapi import FastAPI
from pydantic import BaseModel

from models.breast_cancer import BreastCancer, Measurements
from models.segmentation import Segmentation
from models.sentiment import Sentiments, Texts

app = FastAPI()
DIAGNOSIS_SCHEMA = next(route.response for route in BreastCancer.routes() if route.name == "predict")
DIAGNOSIS = DIAGNOSIS_SCHEMA.model_validate({"label": "M", "prediction": 1})
SEGMENTS = next(route for route in Segmentation.routes() if route.name == "predict")
SCORED = SEGMENTS.response.model_validate({"class_probability": [0.37], "predicted_class": [0]})
LABELS = [{"label": "POSITIVE", "score": 0.98}, {"label": "NEGATIVE", "score": 0.02}]


@app.post("/breast_cancer/predict", response_model=DIAGNOSIS_SCHEMA)
async def diagnose(request: Measurements) -> BaseModel:
    """Return the same answer for every tumour."""
    return DIAGNOSIS


@app.post("/sentiment/predict")
async def classify(request: Texts) -> Sentiments:
    """Return the same answer for every text."""
    return Sentiments.model_validate({"predictions": [LABELS] * len(request.text)})


@app.post("/segmentation/predict", response_model=SEGMENTS.response)
async def score(request: SEGMENTS.request) -> BaseModel:  # type: ignore[name-defined]
    """Return the same answer for every customer."""
    return SCORED

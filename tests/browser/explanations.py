"""Answers of `explain` for servers that do not explain."""

from __future__ import annotations

from typing import Any

import httpx

from tests.browser.visits import Visit

TEXT = {
    "prediction": {"predictions": [[{"label": "POSITIVE", "score": 0.94}]]},
    "base": 0.5,
    "contributions": [
        {"span": [0, 1], "value": 0.02},
        {"span": [2, 9], "value": 0.4},
        {"span": [10, 14], "value": 0.05},
        {"span": [15, 20], "value": -0.03},
    ],
    "evaluations": 16,
    "standard_error": 0.0,
}
PICTURE = {
    "prediction": {"Label": "ship", "Score": 0.9, "predictions": [{"label": "ship", "score": 0.9}]},
    "base": 0.1,
    "contributions": [
        {"box": [80 * column, 60 * line, 80 * column + 80, 60 * line + 60], "value": 0.2 if line == 2 else -0.01}
        for line in range(4)
        for column in range(4)
    ],
    "evaluations": 17,
    "standard_error": 0.0,
}
ROW = {
    "prediction": {"class_probability": [0.79], "predicted_class": [1]},
    "base": -0.2,
    "contributions": [{"name": "x44", "value": 0.7}, {"name": "x5", "value": -0.1}, {"name": "x12", "value": 0.3}],
    "evaluations": 1,
    "standard_error": 0.01,
}
ANSWERS: dict[str, Any] = {"sentiment": TEXT, "image": PICTURE, "segmentation": ROW, "breast_cancer": ROW}


def explain(visit: Visit) -> None:
    """Have every model explain itself, where the server does not."""
    if "/sentiment/explain" in httpx.get(f"{visit.address}/docs.json").json()["paths"]:
        return

    def add(document: dict[str, Any]) -> None:
        for name in ANSWERS:
            document["paths"][f"/{name}/explain"] = document["paths"][f"/{name}/predict"]

    visit.document(add)
    for name, answer in ANSWERS.items():
        visit.respond(f"{name}/explain", 200, answer)

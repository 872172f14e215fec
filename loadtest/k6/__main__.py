"""Write a profile and its inputs for load.js: `python -m loadtest.k6 sentiment reports/k6.json`."""

from __future__ import annotations

import argparse
import base64
import json
from pathlib import Path
from typing import Any

from loadtest import inputs
from loadtest.k6.options import NAMES, models_of, options
from loadtest.profiles import CACHE_RATE, POOL, PROFILES, WEIGHTS

# A key of every answer.
ANSWERS = {
    "sentiment": "predictions",
    "breast_cancer": "label",
    "segmentation": "class_probability",
    "image": "Label",
}


def known_inputs(model: str) -> list[str]:
    """Return the inputs that are repeated: bodies in JSON, and pictures in Base64."""
    if model == "image":
        return [base64.b64encode(inputs.picture(number)).decode() for number in range(POOL)]
    return [inputs.REQUESTS[model](number).body.decode() for number in range(POOL)]


def script(name: str, minutes: float | None, cache_rate: float) -> dict[str, Any]:
    """Return what load.js reads."""
    profile = PROFILES[name].scaled(minutes)
    models = {
        model: {
            "path": inputs.REQUESTS[model](0).path,
            "weight": WEIGHTS[model],
            "answer": ANSWERS[model],
            "known": known_inputs(model),
        }
        for model in models_of(profile)
    }
    return {
        "options": options(profile),
        "cacheRate": cache_rate,
        "pause": profile.pause,
        "perUser": profile.per_user,
        "models": models,
    }


def main(arguments: list[str] | None = None) -> None:
    """Write the file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("profile", choices=NAMES)
    parser.add_argument("file", type=Path)
    parser.add_argument("--minutes", type=float, help="the profile's length instead of its own")
    parser.add_argument("--cache-rate", type=float, default=CACHE_RATE, help="share of repeated inputs")
    given = parser.parse_args(arguments)
    given.file.parent.mkdir(parents=True, exist_ok=True)
    found = script(given.profile, given.minutes, given.cache_rate)
    given.file.write_text(json.dumps(found) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

"""A text classifier as a custom runtime of MLServer with adaptive batching: one text per request, V2 protocol."""

from __future__ import annotations

import json
from typing import List  # noqa: UP035  # MLServer does not know list[str]

from engine import load
from mlserver import MLModel
from mlserver.codecs import decode_args


class TextClassifier(MLModel):
    """The runtime that model-settings.json names."""

    async def load(self) -> bool:
        """Load the model in a worker."""
        self.classify = load()
        return True

    @decode_args
    async def predict(self, text: List[str]) -> List[str]:  # noqa: UP006
        """Classify a batch; return a JSON string per text, as MLServer's own runtime for Hugging Face does."""
        return [json.dumps(ranking) for ranking in self.classify(text)]

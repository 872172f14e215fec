"""MLServer with adaptive batching, a text classifier as a custom runtime: a text per request of the V2 protocol."""

from __future__ import annotations

import json
from typing import List  # noqa: UP035  # MLServer knows no list[str]

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
        """Classify a batch; a JSON text per text, as MLServer's own runtime for Hugging Face answers."""
        return [json.dumps(ranking) for ranking in self.classify(text)]

"""A text classifier on LitServe with dynamic batching: one text per request."""

from __future__ import annotations

import os

import litserve
from engine import MAX_BATCH, WAIT_SECONDS, Ranking, load


class TextClassifier(litserve.LitAPI):
    """The steps of a request, as LitServe names them."""

    def setup(self, device: str) -> None:
        """Load the model in a worker."""
        self.classify = load()

    def decode_request(self, request):
        """Return the text of a request; without an annotation, since LitServe reads those and cannot take a string."""
        return request["text"]

    def batch(self, inputs: list[str]) -> list[str]:
        """Return the texts of a batch."""
        return inputs

    def predict(self, texts: list[str]) -> list[Ranking]:
        """Classify a batch."""
        return self.classify(texts)

    def unbatch(self, output: list[Ranking]) -> list[Ranking]:
        """Return one output per request."""
        return output

    def encode_response(self, output):
        """Return the body of an answer."""
        return {"predictions": output}


if __name__ == "__main__":
    server = litserve.LitServer(TextClassifier(max_batch_size=MAX_BATCH, batch_timeout=WAIT_SECONDS), accelerator="cpu")
    server.run(host="127.0.0.1", port=int(os.environ["PORT"]), generate_client_file=False, log_level="warning")

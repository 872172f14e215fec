"""LitServe with dynamic batching, a text classifier: a text per request."""

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
        """The text of a request; an annotation, which LitServe reads, could not stand here as a string."""
        return request["text"]

    def batch(self, inputs: list[str]) -> list[str]:
        """The texts of a batch."""
        return inputs

    def predict(self, texts: list[str]) -> list[Ranking]:
        """Classify a batch."""
        return self.classify(texts)

    def unbatch(self, output: list[Ranking]) -> list[Ranking]:
        """One output per request."""
        return output

    def encode_response(self, output):
        """The body of an answer."""
        return {"predictions": output}


if __name__ == "__main__":
    server = litserve.LitServer(TextClassifier(max_batch_size=MAX_BATCH, batch_timeout=WAIT_SECONDS), accelerator="cpu")
    server.run(host="127.0.0.1", port=int(os.environ["PORT"]), generate_client_file=False, log_level="warning")

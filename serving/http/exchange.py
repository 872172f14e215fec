"""One request and its response, as the middlewares know them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from serving.inference.context import RequestContext

if TYPE_CHECKING:
    from serving.http.body import RequestBody
    from serving.http.middleware.deadline import Deadline
    from serving.inference.predictor import Predictor

# The key of a request's exchange in its scope.
EXCHANGE = "tiffin"


class Exchange:
    """The state that the middlewares and the endpoint of one request share.

    `headers`: the request's; of several lines the first, as BentoML does. `response_headers`: those that the response
    gets, whatever it is. `route`, `protocol`, `model`: the path of the route that matched, as metrics call it, its
    protocol, and the name of its model, if any. `owner`: the name of the key. `predictor`, `version`: those of the
    model that answers, None and empty where none does. `cache`: the outcome for metrics. `status`: that
    of the response once it has begun; `complete`: whether all of it has been sent. `deadline` and `body` are there for
    what is inside their middlewares.
    """

    route = "other"
    protocol = "rest"
    model = ""
    owner: str | None = None
    predictor: Predictor | None = None
    version = ""
    cache = "none"
    status: int | None = None
    complete = False
    deadline: Deadline
    body: RequestBody

    def __init__(
        self, headers: dict[bytes, bytes], context: RequestContext, response_headers: list[tuple[bytes, bytes]]
    ) -> None:
        self.headers = headers
        self.context = context
        self.response_headers = response_headers

    def note_predictor(self, predictor: Predictor) -> None:
        """Have the model that answers, and tell the client its version."""
        self.predictor = predictor
        self.version = predictor.id.version
        self.response_headers.append((b"x-model-version", self.version.encode()))

    def note_caches(self) -> None:
        """Have what the caches did for the answer, and tell the client."""
        self.cache = self.context.cache_outcome
        self.response_headers.append((b"x-cache", self.cache.encode()))
        if self.context.hits:
            self.response_headers.append((b"age", str(int(self.context.age)).encode()))

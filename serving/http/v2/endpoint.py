"""The endpoint of `POST /v2/models/<model>/infer`."""

from __future__ import annotations

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

import models
from models.model import InvalidInputError
from serving.http.body import parse_beside, too_large, utf8
from serving.http.bounds import has_more_values
from serving.http.client_watch import ClientWatch
from serving.http.errors import RefusedError, invalid_input, response_to
from serving.http.exchange import EXCHANGE, Exchange
from serving.http.surrogates import replace_halves
from serving.http.v2 import HEADER_LENGTH
from serving.http.v2.bodies import BINARY, JSON, raw_request, read_request, split, written
from serving.inference.errors import OverloadedError
from serving.oip.requests import InferRequest
from serving.oip.service import TensorInference
from serving.oip.tensors import BYTES


class TensorEndpoint:
    """ASGI app that answers requests of the Open Inference Protocol by one model."""

    def __init__(self, inference: TensorInference, model: str, max_values: int) -> None:
        self.inference = inference
        self.name = model
        self.model = models.find(model)
        self.max_values = max_values

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Read the body and answer it."""
        exchange: Exchange = scope[EXCHANGE]
        request = await self.read(exchange)
        with ClientWatch(receive, exchange):
            response = await self.answer(request, exchange)
            await response(scope, receive, send)

    async def read(self, exchange: Exchange) -> InferRequest:
        """Read the request in a body; raise RefusedError or ProtocolError."""
        body = await exchange.body.all()
        text, binary = split(body, exchange.headers.get(HEADER_LENGTH))
        if not text and binary is not None:
            return raw_request(binary, self.model)
        if text:
            text = utf8(text, exchange.headers.get(b"content-type", b""))
            if len(text) > self.max_values and await has_more_values(text, self.max_values):
                raise RefusedError(too_large(f"{self.max_values:,} values"))
        # Numbers in binary form are not parsed, only looked at.
        slow = body if BYTES.encode() in text else text
        try:
            return await parse_beside(lambda _: read_request(replace_halves(text), binary, self.model), slow)
        except InvalidInputError as error:
            raise RefusedError(invalid_input(error, str(error))) from None

    async def answer(self, request: InferRequest, exchange: Exchange) -> Response:
        """Return the response to a request."""
        try:
            predictor = exchange.predictor or self.inference.registry.get(self.name)
            answer = await self.inference.infer(predictor, request, exchange.context)
        except InvalidInputError as error:  # raised, it would keep the body alive until garbage is collected
            return invalid_input(error, str(error))  # clients of the protocol show the text alone
        except OverloadedError as error:
            return response_to(error)
        body, json_length = written(answer, request)
        if json_length is None:
            return Response(body, media_type=JSON)
        return Response(body, media_type=BINARY, headers={HEADER_LENGTH.decode(): str(json_length)})

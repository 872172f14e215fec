"""Inference by tensors, over the engine."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from models.model import Array, Columns, InvalidInputError
from serving.inference.context import RequestContext
from serving.inference.errors import DeadlineExceededError
from serving.inference.predictor import Predictor
from serving.inference.service import InferenceService
from serving.oip.columns import items_of, tensors_of
from serving.oip.errors import placed
from serving.oip.requests import InferAnswer, InferRequest, apply_parameters, check_supported
from serving.oip.tensors import Tensor

# Checking fewer elements takes less time than handing them to a thread; numbers are checked all at once.
FEW_OBJECTS, FEW_NUMBERS = 2_000, 100_000
# The same for the characters or bytes of elements.
FEW_BYTES = 2**18


class TensorInference:
    """Answers requests for inference by an inference service."""

    def __init__(self, inference: InferenceService) -> None:
        self.inference = inference
        self.registry = inference.registry

    async def infer(self, predictor: Predictor, request: InferRequest, context: RequestContext) -> InferAnswer:
        """Answer a request, which `check_described` admits, by a loaded version of a model.

        Raises ProtocolError, InvalidInputError, and what InferenceService.columns raises.
        """
        model = type(predictor.model)
        for output in request.outputs:
            check_supported(output.name, output.parameters)
        for tensor in request.inputs:
            check_supported(tensor.name, tensor.parameters)
        seconds = apply_parameters(request.parameters, context)
        try:
            async with asyncio.timeout(seconds):
                columns = await self.columns(predictor, request, context)
        except InvalidInputError as error:
            raise placed(error, model) from None
        except DeadlineExceededError:
            raise
        except TimeoutError:
            told = f"not answered within the timeout of {request.parameters['timeout']:,} µs"
            raise DeadlineExceededError(told) from None
        square = all(tensor.shape[1:] == (1,) for tensor in request.inputs)
        names = [output.name for output in request.outputs]
        outputs = tensors_of(columns, model.outputs, names, square=square)
        return InferAnswer(*predictor.id, outputs)

    async def columns(self, predictor: Predictor, request: InferRequest, context: RequestContext) -> Columns:
        """Return the output columns of a request, whose items are made in a thread where they are many."""
        model = type(predictor.model)
        few = are_few(request.inputs)
        items = items_of(request.inputs, model) if few else await asyncio.to_thread(items_of, request.inputs, model)
        return await self.inference.columns(predictor, items, context)


def are_few(tensors: Sequence[Tensor]) -> bool:
    """Return whether the elements of tensors are checked in less time than a thread takes to be handed them."""
    numbers = count = 0
    objects: list[Array] = []
    for tensor in tensors:
        if tensor.values.dtype.hasobject:
            objects.append(tensor.values)
            count += len(tensor.values)
        else:
            numbers += len(tensor.values)
    if count > FEW_OBJECTS or numbers > FEW_NUMBERS:
        return False
    return sum(len(value) for values in objects for value in values if isinstance(value, str | bytes)) <= FEW_BYTES

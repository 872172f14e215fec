"""Server reflection: tools such as grpcurl ask a server for the methods and messages that it has.

Source: https://github.com/grpc/grpc/blob/master/doc/server-reflection.md
"""

from __future__ import annotations

from typing import Any

import grpc
from grpc.aio import ServicerContext
from grpc_health.v1 import health_pb2
from grpc_health.v1.health import SERVICE_NAME as HEALTH
from grpc_reflection.v1alpha import reflection_pb2
from grpc_reflection.v1alpha.reflection import SERVICE_NAME, aio

from serving.grpc.calls import Calls
from serving.grpc.messages import SERVICE, pool
from serving.http.v2.routes import REQUEST_BYTES


def reflection_handlers(calls: Calls, idle_seconds: float) -> grpc.GenericRpcHandler:
    """Return the handler of reflection, whose calls end where nothing is asked for `idle_seconds`."""
    for file in (health_pb2, reflection_pb2):
        pool.AddSerializedFile(file.DESCRIPTOR.serialized_pb)
    servicer = aio.ReflectionServicer((SERVICE, HEALTH, SERVICE_NAME), pool=pool)

    async def reflect(_: Any, context: ServicerContext) -> None:
        requests = calls.requests(reflection_pb2.ServerReflectionRequest, context, REQUEST_BYTES, idle_seconds)
        async for response in servicer.ServerReflectionInfo(requests, context):
            await context.write(response.SerializeToString())

    methods = {"ServerReflectionInfo": grpc.stream_stream_rpc_method_handler(reflect)}
    return grpc.method_handlers_generic_handler(SERVICE_NAME, methods)

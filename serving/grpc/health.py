"""The health service of gRPC, which Kubernetes probes: of the server, of its service, and of each model.

Source: https://github.com/grpc/grpc/blob/master/doc/health-checking.md
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import grpc
from grpc.aio import ServicerContext
from grpc_health.v1.health import OVERALL_HEALTH, SERVICE_NAME
from grpc_health.v1.health import aio as library
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse

from serving.grpc.calls import Calls, Rpc
from serving.grpc.messages import SERVICE, parse
from serving.http.exchange import Exchange
from serving.http.lifecycle import Lifecycle
from serving.http.v2.routes import REQUEST_BYTES
from serving.inference.errors import UnknownModelError
from serving.inference.registry import Registry


class Health:
    """The state of the server and of the models `names`, as the lifecycle of the worker and the registry have it."""

    def __init__(self, names: Sequence[str], registry: Registry, lifecycle: Lifecycle) -> None:
        self.names = names
        self.registry = registry
        self.lifecycle = lifecycle
        self.watched = library.HealthServicer()

    def status(self, service: str) -> int:
        """Return the status of a service; raise UnknownModelError for a name of none."""
        if service in self.names:
            serving = self.lifecycle.ready and bool(self.registry.versions(service))
        elif service in (OVERALL_HEALTH, SERVICE):
            serving = self.lifecycle.ready
        else:
            raise UnknownModelError(f"no service {service[:100]}")
        status: int = HealthCheckResponse.SERVING if serving else HealthCheckResponse.NOT_SERVING
        return status

    async def refresh(self) -> None:
        """Tell those who watch what has changed."""
        for service in (OVERALL_HEALTH, SERVICE, *self.names):
            await self.watched.set(service, self.status(service))

    def handlers(self, calls: Calls) -> grpc.GenericRpcHandler:
        """Return the handlers of the service's methods."""

        async def check(message: bytes, _: Exchange) -> Any:
            await self.refresh()  # models may have been loaded or unloaded
            return HealthCheckResponse(status=self.status(parse(HealthCheckRequest, message).service))

        async def watch(_: Any, context: ServicerContext) -> None:
            async for request in calls.requests(HealthCheckRequest, context, REQUEST_BYTES, calls.message_seconds):
                await self.watched.Watch(request, context)

        methods = {
            "Check": calls.unary_handler(Rpc(f"/{SERVICE_NAME}/Check", check, REQUEST_BYTES, public=True)),
            "Watch": grpc.stream_stream_rpc_method_handler(
                watch, response_serializer=HealthCheckResponse.SerializeToString
            ),
        }
        return grpc.method_handlers_generic_handler(SERVICE_NAME, methods)

"""The health service of gRPC, which Kubernetes probes: of the server, of its service, and of each model.

Source: https://github.com/grpc/grpc/blob/master/doc/health-checking.md
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

import grpc
from grpc.aio import ServicerContext
from grpc_health.v1.health import OVERALL_HEALTH, SERVICE_NAME
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse

from serving.grpc.calls import Calls, Rpc
from serving.grpc.held import Held
from serving.grpc.messages import SERVICE
from serving.grpc.wire import parse
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
        self.told = self.statuses()
        self.changed = asyncio.Event()  # set once, when `told` is no longer true

    def statuses(self) -> Mapping[str, int]:
        """Return the status of each service."""
        ready = self.lifecycle.ready
        serving = {OVERALL_HEALTH: ready, SERVICE: ready}
        serving |= {name: ready and bool(self.registry.versions(name)) for name in self.names}
        states = (HealthCheckResponse.NOT_SERVING, HealthCheckResponse.SERVING)
        return {service: states[each] for service, each in serving.items()}

    def refresh(self) -> None:
        """Tell those who watch what has changed."""
        statuses = self.statuses()
        if statuses != self.told:
            self.told = statuses
            self.changed.set()
            self.changed = asyncio.Event()

    async def watch(self, service: str, context: ServicerContext) -> None:
        """Write the status of a service, and again whenever it has changed, for as long as the call lasts.

        A client that does not read holds up nobody but itself.
        """
        last = None
        while True:
            changed, status = self.changed, self.told.get(service, HealthCheckResponse.SERVICE_UNKNOWN)
            if status != last:
                await context.write(HealthCheckResponse(status=status))
                last = status
            await changed.wait()

    def handlers(self, calls: Calls) -> grpc.GenericRpcHandler:
        """Return the handlers of the service's methods."""

        async def check(held: Held, _: Exchange) -> Any:
            service = parse(HealthCheckRequest, held.pop(REQUEST_BYTES)).service
            status = self.statuses().get(service)
            if status is None:
                raise UnknownModelError(f"no service {service[:100]}")
            return HealthCheckResponse(status=status)

        async def watch(_: Any, context: ServicerContext) -> None:
            async for request in calls.requests(HealthCheckRequest, context, REQUEST_BYTES, calls.message_seconds):
                await self.watch(request.service, context)

        methods = {
            "Check": calls.unary_handler(Rpc(f"/{SERVICE_NAME}/Check", check, public=True)),
            "Watch": grpc.stream_stream_rpc_method_handler(
                watch, response_serializer=HealthCheckResponse.SerializeToString
            ),
        }
        return grpc.method_handlers_generic_handler(SERVICE_NAME, methods)

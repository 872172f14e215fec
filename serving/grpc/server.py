"""The server of gRPC, one in each worker; on Linux they share a port by SO_REUSEPORT."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from pathlib import Path

import grpc

from serving.grpc.calls import Calls
from serving.grpc.health import Health
from serving.grpc.reading import Reads
from serving.grpc.reflection import reflection_handlers
from serving.grpc.servicer import Servicer
from serving.http.guards import Guards

# How many calls of one connection are answered at a time; clients keep further ones until then.
MAX_CALLS = 1_000
# How many calls of all connections may have come before the worker has begun to answer them.
MAX_PENDING = 5_000
# At the end: how often to look whether all calls have been answered, and how long their last answers take to be sent.
CHECK_SECONDS, SENDING_SECONDS = 0.05, 0.5
# By which grpc logs what its calls raise.
LOGGER = "grpc._cython.cygrpc"


@dataclass(frozen=True)
class Tls:
    """PEM files: the server's certificate and its key, and the authorities of clients that must have certificates."""

    certificate: Path
    key: Path
    client_ca: Path | None = None

    def credentials(self) -> grpc.ServerCredentials:
        """Return what the server identifies itself by."""
        pair = (self.key.read_bytes(), self.certificate.read_bytes())
        authorities = None if self.client_ca is None else self.client_ca.read_bytes()
        return grpc.ssl_server_credentials([pair], authorities, require_client_auth=authorities is not None)


class GrpcServer:
    """Serves the Open Inference Protocol, health and reflection at `address`, `host:port`.

    `connection_seconds`: after that a connection takes no more calls, give or take a tenth, and ends with those that it
    has; else clients would never ask for the addresses of new servers. `shared`: whether others listen there, too.
    """

    def __init__(
        self,
        address: str,
        servicer: Servicer,
        guards: Guards,
        *,
        timeout_seconds: float,
        message_seconds: float,
        idle_seconds: float,
        connection_seconds: float,
        shared: bool = False,
        tls: Tls | None = None,
    ) -> None:
        self.health = Health(list(servicer.accepted), servicer.registry, servicer.lifecycle)
        servicer.repository.on_change = self.health.refresh
        largest = servicer.max_message_bytes
        self.calls = calls = Calls(guards, Reads(guards.in_flight, largest), timeout_seconds, message_seconds)
        options = {
            "grpc.max_receive_message_length": largest,
            "grpc.max_concurrent_streams": MAX_CALLS,
            "grpc.max_connection_idle_ms": round(idle_seconds * 1000),
            "grpc.max_connection_age_ms": round(connection_seconds * 1000),
            # Beyond these grpc cancels calls before the worker sees them, between them some.
            "grpc.server.max_pending_requests": MAX_PENDING,
            "grpc.server.max_pending_requests_hard_limit": 2 * MAX_PENDING,
            "grpc.so_reuseport": int(shared),
            # Its guess of the bandwidth would let a connection send megabytes that nobody reads.
            "grpc.http2.bdp_probe": 0,
            # Messages are unpacked once they are held (`held.py`).
            "grpc.per_message_decompression": 0,
        }
        handlers = [
            servicer.handlers(calls, idle_seconds),
            self.health.handlers(calls),
            reflection_handlers(calls, idle_seconds),
        ]
        logging.getLogger(LOGGER).addFilter(is_server_fault)
        self.server = grpc.aio.server(handlers=handlers, options=list(options.items()))
        if tls is None:
            self.port = self.server.add_insecure_port(address)
        else:
            self.port = self.server.add_secure_port(address, tls.credentials())

    async def start(self) -> None:
        """Take calls."""
        self.health.refresh()
        await self.server.start()

    def drain(self, grace_seconds: float, stop_seconds: float) -> None:
        """Tell who asks for health that the worker is about to end; stop after the grace period."""
        self.draining = asyncio.create_task(self.end(grace_seconds, stop_seconds))

    async def end(self, grace_seconds: float, stop_seconds: float) -> None:
        """Take calls for the grace period, then stop."""
        self.health.refresh()
        await asyncio.sleep(grace_seconds)
        await self.stop(stop_seconds)

    async def stop(self, seconds: float) -> None:
        """Take no more calls; answer those that there are, for so many seconds at most, and end streams that wait."""
        stopping = asyncio.create_task(self.server.stop(seconds))
        while self.calls.answering and not stopping.done():
            await asyncio.sleep(CHECK_SECONDS)
        await self.server.stop(SENDING_SECONDS)
        await stopping


def is_server_fault(record: logging.LogRecord) -> bool:
    """Return whether a log record is about more than an answer to a client that has gone."""
    return not record.exc_info or not isinstance(record.exc_info[1], grpc.aio.InternalError)

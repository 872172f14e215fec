"""A client of ModelInfer under gevent, as Locust's users need it."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from urllib.parse import urlsplit

import grpc
from grpc.experimental import gevent

from loadtest.messages import MODEL_INFER
from loadtest.openapi import tls_context

# Triton's port.
PORT = 8001
# Without these, all users of a process would share a connection, and answers of more than 4 MiB would be refused.
OPTIONS = (("grpc.use_local_subchannel_pool", 1), ("grpc.max_receive_message_length", -1))


def target_of(address: str) -> str:
    """Return HOST:PORT of gRPC on the host of an HTTP address."""
    return f"{urlsplit(address).hostname}:{PORT}"


@functools.cache
def use_gevent() -> None:
    """Have gRPC wait by gevent; to be called once Locust has forked, and before the first channel."""
    gevent.init_gevent()


class GrpcClient:
    """A connection to a server; with TLS where `secure`, by the system's authorities or those of a PEM file."""

    def __init__(self, target: str, api_key: str, ca_file: str, *, secure: bool) -> None:
        use_gevent()
        if secure:
            tls_context(ca_file)  # raises ServerError for a file without certificates
            roots = Path(ca_file).read_bytes() if ca_file else None
            self.channel = grpc.secure_channel(target, grpc.ssl_channel_credentials(roots), OPTIONS)
        else:
            self.channel = grpc.insecure_channel(target, OPTIONS)
        self.infer = self.channel.unary_unary(MODEL_INFER)
        self.metadata: Sequence[tuple[str, str]] = [("x-api-key", api_key)] if api_key else []

    def ask(self, message: bytes, timeout_seconds: float) -> tuple[bytes, Mapping[str, str]]:
        """Return the answer to a message, and the server's metadata; raise grpc.RpcError for any code but OK."""
        answer, call = self.infer.with_call(message, timeout_seconds, self.metadata)
        return answer, dict([*call.initial_metadata(), *call.trailing_metadata()])

    def close(self) -> None:
        """Close the connection."""
        self.channel.close()


def refusal(error: grpc.RpcError, max_characters: int) -> str:
    """Name the code of a call that failed, with the server's own words."""
    return f"code {error.code().name}: {error.details()[:max_characters]}".rstrip(" :")

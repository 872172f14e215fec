"""A client of ModelInfer under gevent, as Locust's users need it."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

import grpc
from grpc.experimental import gevent

from loadtest.messages import MODEL_INFER
from loadtest.openapi import tls_context

# Triton's port.
PORT = 8001
# Without these, all users of a process would share a connection, and answers of more than 4 MiB would be refused.
OPTIONS = (("grpc.use_local_subchannel_pool", 1), ("grpc.max_receive_message_length", -1))


class Target(NamedTuple):
    """Where gRPC is served, as HOST:PORT, and whether over TLS."""

    address: str
    secure: bool


def target_of(host: str, written: str = "") -> Target:
    """Return the target that is `written`, by default Triton's port of the host of HTTP.

    It is over TLS where it begins with `https://`; without a scheme it is where the host of HTTP is.
    """
    scheme, _, address = written.rpartition("://")
    known = urlsplit(host)
    return Target(address or f"{known.hostname}:{PORT}", (scheme or known.scheme) == "https")


@functools.cache
def use_gevent() -> None:
    """Have gRPC wait by gevent; to be called once Locust has forked, and before the first channel."""
    gevent.init_gevent()


class GrpcClient:
    """A connection to a server; over TLS, by the system's authorities or those of a PEM file."""

    def __init__(self, target: Target, api_key: str, ca_file: str) -> None:
        use_gevent()
        if target.secure:
            tls_context(ca_file)  # raises ServerError for a file without certificates
            roots = Path(ca_file).read_bytes() if ca_file else None
            self.channel = grpc.secure_channel(target.address, grpc.ssl_channel_credentials(roots), OPTIONS)
        else:
            self.channel = grpc.insecure_channel(target.address, OPTIONS)
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

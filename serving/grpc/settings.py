"""The settings of gRPC."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field
from pydantic_settings import BaseSettings

from serving.setting_types import Seconds


class GrpcSettings(BaseSettings):
    """Settings of gRPC, a part of `Settings`."""

    grpc_port: int = Field(
        default=8001,
        ge=0,
        le=2**16 - 1,
        description="Port of gRPC, at the same address as that of HTTP; empty or 0: no gRPC.",
    )
    grpc_connection_seconds: Seconds = Field(
        default=300.0,
        description="Seconds after which a connection of gRPC takes no more calls, so that clients find new servers.",
    )
    grpc_tls_certificate: Path | None = Field(
        default=None, description="PEM file with the certificate of gRPC, and those that lead to its authority."
    )
    grpc_tls_key: Path | None = Field(default=None, description="PEM file with the key of this certificate.")
    grpc_tls_client_ca: Path | None = Field(
        default=None, description="PEM file with the authorities of clients of gRPC, which then need certificates."
    )

"""What must hold before workers can open the port of gRPC, said in one line where it does not.

The address is that at which `bentoml serve` listens, which only its own process knows: it tells the workers.
"""

from __future__ import annotations

import os
import ssl
from pathlib import Path

from serving.bento.start import HOST, PORT, bentoml_command, check_port, end
from serving.settings import Settings
from serving.variables import new_name

# The variable in which workers find the address.
ADDRESS = "TIFFIN_GRPC_HOST"
PORT_VARIABLE = new_name("grpc_port")


def prepare(settings: Settings) -> None:
    """Exit with a line, in the process of `bentoml serve`, when workers could not serve gRPC by these settings."""
    command, options = bentoml_command()
    if command != "serve" or not settings.grpc_port:
        return
    host = os.environ[ADDRESS] = options.get("host") or HOST
    off = f"turn gRPC off by {PORT_VARIABLE}=0"
    if settings.grpc_port == (PORT if options.get("port") is None else options["port"]):
        end(f"port {settings.grpc_port} is that of HTTP: choose another one for gRPC by {PORT_VARIABLE}, or {off}")
    check_port(host, settings.grpc_port, f"{PORT_VARIABLE}, or {off}")
    check_tls(settings.grpc_tls_certificate, settings.grpc_tls_key, settings.grpc_tls_client_ca)


def address(settings: Settings) -> str:
    """Return where a worker serves gRPC, as `host:port`."""
    host = os.environ.get(ADDRESS, HOST)
    return f"[{host}]:{settings.grpc_port}" if ":" in host else f"{host}:{settings.grpc_port}"


def check_tls(certificate: Path | None, key: Path | None, client_ca: Path | None) -> None:
    """Exit with a line when these files cannot be used."""
    names = {name: new_name(f"grpc_tls_{name}") for name in ("certificate", "key", "client_ca")}
    if certificate is None or key is None:
        if certificate or key or client_ca:
            end(f"gRPC over TLS needs both {names['certificate']} and {names['key']}")
        return
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    for name, path in (("certificate", certificate), ("key", key), ("client_ca", client_ca)):
        try:
            if path is not None:
                path.read_bytes()
        except OSError as error:
            end(f"{names[name]}={path}: cannot be read: {error.strerror}")
    try:
        context.load_cert_chain(certificate, key)
    except ssl.SSLError:
        end(f"{names['certificate']}={certificate}: is no certificate in PEM that belongs to the key in {key}")
    try:
        if client_ca is not None:
            context.load_verify_locations(client_ca)
    except ssl.SSLError:
        end(f"{names['client_ca']}={client_ca}: holds no certificate in PEM")

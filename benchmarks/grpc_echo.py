"""A bare gRPC server: it reads each ModelInferRequest, and answers it with the same ModelInferResponse.

python -m benchmarks.grpc_echo PORT FILE

FILE holds the response. A line is printed once calls are taken.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Any

import grpc

from serving.grpc.messages import SERVICE, message_class


async def serve(port: int, response: Any) -> None:
    """Answer calls until the process is ended."""

    async def infer(request: Any, context: grpc.aio.ServicerContext) -> Any:
        return response

    server = grpc.aio.server()
    read, write = message_class("ModelInferRequest").FromString, type(response).SerializeToString
    handlers = {"ModelInfer": grpc.unary_unary_rpc_method_handler(infer, read, write)}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
    server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    print("ready", flush=True)
    await server.wait_for_termination()


if __name__ == "__main__":
    _, port, file = sys.argv
    asyncio.run(serve(int(port), message_class("ModelInferResponse").FromString(Path(file).read_bytes())))

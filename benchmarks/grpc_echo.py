"""A bare gRPC server: it reads each ModelInferRequest, runs a graph on its row, and answers with the same message.

python -m benchmarks.grpc_echo PORT FILE GRAPH

FILE holds the ModelInferResponse. The graph is run between calls, as a server does it: alone, again and again, it would
take a third of the time, since all that it needs stays in the processor's caches. A line says that calls are taken.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Any

import grpc
import numpy as np

from serving.grpc.messages import SERVICE, message_class
from serving.inference.session import open_session


async def serve(port: int, response: Any, graph: str) -> None:
    """Answer calls until the process is ended."""
    session = open_session(Path(graph), threads=1)

    async def infer(request: Any, context: grpc.aio.ServicerContext) -> Any:
        row = np.frombuffer(b"".join(request.raw_input_contents), np.float64).astype(np.float32)
        session.run(None, {"features": row[None]})
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
    _, port, file, graph = sys.argv
    asyncio.run(serve(int(port), message_class("ModelInferResponse").FromString(Path(file).read_bytes()), graph))

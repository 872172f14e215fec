"""The endpoints of the model repository: its index, loading and unloading."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from models.model import UNDECODABLE
from serving.http.exchange import EXCHANGE, Exchange
from serving.http.system import json_response
from serving.oip.errors import ProtocolError
from serving.oip.repository import Repository, version_of


class CommandObject(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    """A request to the repository; its body may be empty."""

    ready: bool = False
    parameters: dict[str, Any] = {}


COMMAND = msgspec.json.Decoder(CommandObject)


class CommandEndpoint:
    """ASGI app that answers requests to the repository, given the name of a model, if any, and the command."""

    def __init__(self, answer: Callable[[str, CommandObject], Awaitable[Any]]) -> None:
        self.answer = answer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Read the command and answer it; raise ProtocolError where it cannot be read."""
        exchange: Exchange = scope[EXCHANGE]
        body = await exchange.body.all()
        try:
            command = COMMAND.decode(body) if body.strip() else CommandObject()
        except UNDECODABLE as error:
            raise ProtocolError(f"the body is no request to the repository: {error}") from None
        response: Response = json_response(await self.answer(scope.get("path_params", {}).get("model", ""), command))
        await response(scope, receive, send)


def repository_endpoints(repository: Repository) -> dict[str, ASGIApp]:
    """Return the endpoints by path."""

    async def index(_: str, command: CommandObject) -> Any:
        return await repository.index(ready=command.ready)

    async def load(name: str, command: CommandObject) -> Any:
        loaded = await repository.load(name, version_of(command.parameters))
        return {"name": loaded.name, "version": loaded.version, "state": "READY"}

    async def unload(name: str, command: CommandObject) -> Any:
        await repository.unload(name, version_of(command.parameters))
        return {"name": name, "state": "UNAVAILABLE"}

    return {
        "/v2/repository/index": CommandEndpoint(index),
        "/v2/repository/models/{model}/load": CommandEndpoint(load),
        "/v2/repository/models/{model}/unload": CommandEndpoint(unload),
    }

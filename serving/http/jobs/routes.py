"""The routes of a model's background jobs: submit, status, get, cancel, retry, list and delete."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from functools import partial
from hashlib import blake2b
from http import HTTPStatus
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

import models
from serving.http.endpoints import Accepted, FormEndpoint
from serving.http.errors import RefusedError, error_response, validation_response
from serving.http.exchange import EXCHANGE, Exchange
from serving.http.guards import Guards
from serving.http.routes import UPLOADS_AT_A_TIME, one_of
from serving.http.system import json_response
from serving.http.uploads import fixed_fields, output_names, upload_route
from serving.inference.predictor import Predictor
from serving.inference.registry import Registry
from serving.jobs import results
from serving.jobs.background import BackgroundJobs
from serving.jobs.errors import UnfinishedError, UnknownJobError
from serving.jobs.job import Job, State
from serving.tables.formats import check_start
from serving.telemetry import metrics
from serving.threads import to_its_end

TASK_ID = re.compile("[0-9a-f]{32}")
IDEMPOTENCY_KEY = re.compile(r"[\x21-\x7e]{1,255}")
# Most jobs in a list.
MAX_LISTED = 100
RETRY_AFTER = {"Retry-After": "1"}
DIGEST_BYTES = 2**20

Endpoint = Callable[[Request], Awaitable[Response]]


def job_routes(
    names: Iterable[str], registry: Registry, accepted: Mapping[str, Accepted], guards: Guards, jobs: BackgroundJobs
) -> list[Route]:
    """Return the routes of the models' jobs; `accepted` says what those of `uploadfile` take."""
    slots = asyncio.Semaphore(UPLOADS_AT_A_TIME)
    admission = guards.admission()
    found = []
    for name in names:
        tasks = Tasks(name, registry, jobs, slots)
        takes = accepted[f"/{name}/uploadfile"].uncached()
        for path in (f"/{name}/score/submit", f"/{name}/versions/{{version}}/score/submit"):
            found.append(guards.post(path, FormEndpoint(takes, tasks.submit), takes, model=(registry, name)))
        endpoints: list[tuple[str, str, Endpoint]] = [
            ("GET", "status", tasks.status),
            ("GET", "get", tasks.get),
            ("PUT", "cancel", tasks.cancel),
            ("POST", "retry", tasks.retry),
            ("GET", "tasks", tasks.listing),
            ("DELETE", "tasks", tasks.delete),
        ]
        for method, action, endpoint in endpoints:
            path = f"/{name}/score/{action}"
            found.append(Route(path, endpoint, methods=[method], name=path, middleware=admission))
    return found


class Tasks:
    """The endpoints of one model's jobs; files are read, and Parquet is written, in one of the `slots`."""

    def __init__(self, name: str, registry: Registry, jobs: BackgroundJobs, slots: asyncio.Semaphore) -> None:
        self.name = name
        self.model = models.find(name)
        self.registry = registry
        self.jobs = jobs
        self.slots = slots

    async def submit(self, fields: dict[str, Any], exchange: Exchange) -> Response:
        """Take a file as a job, once its first rows have been read."""
        try:
            file = upload_route(self.model).request.model_validate(fields).file  # type: ignore[attr-defined]
        except ValidationError as error:
            return validation_response(error.errors(include_url=False, include_context=False, include_input=False))
        key = idempotency_key(exchange)
        predictor = exchange.predictor or self.registry.get(self.name)
        return await one_of(self.slots, self.submitted(file, key, predictor, exchange))

    async def submitted(self, file: Path, key: str | None, predictor: Predictor, exchange: Exchange) -> Response:
        """Check the start of a file, and submit it."""
        await to_its_end(check_start, file, self.model, self.jobs.max_rows)
        digest = await to_its_end(digest_of, file)
        job = await self.jobs.submit(owner_of(exchange), predictor.id, file, digest, key)
        return self.accepted(job, exchange)

    def accepted(self, job: Job, exchange: Exchange) -> Response:
        """Return the answer to a submission, as BentoML gives it."""
        state = State.IN_PROGRESS if job.state is State.PENDING else job.state
        response = json_response({"task_id": job.id, "status": state.value})
        response.status_code = HTTPStatus.ACCEPTED
        response.headers["Location"] = f"{self.jobs.root_path}/{self.name}/score/status?task_id={job.id}"
        response.headers.update(RETRY_AFTER)
        return response

    async def status(self, request: Request) -> Response:
        """Answer a job's state, times and progress."""
        job = await self.job(request)
        response = json_response(job.described())
        if not job.state.is_final:
            response.headers.update(RETRY_AFTER)
        return response

    async def get(self, request: Request) -> Response:
        """Answer a job's result in the format that the request names; raise UnfinishedError until it is there."""
        job = await self.job(request)
        format_ = format_of(request)
        if not job.state.is_final:
            raise UnfinishedError(f"task {job.id} is not completed yet")
        if job.state is State.CANCELED:
            raise UnfinishedError(f"task {job.id} was canceled")
        if job.error is not None:
            told = job.fault()
            response = json_response(told)
            invalid = bool(told["detail"])
            response.status_code = HTTPStatus.UNPROCESSABLE_ENTITY if invalid else HTTPStatus.INTERNAL_SERVER_ERROR
            return response
        exchange: Exchange = request.scope[EXCHANGE]
        exchange.response_headers.append((b"x-model-version", job.model_id.version.encode()))
        found = await self.jobs.store.results(job.id)
        if not found:  # it has been deleted meanwhile
            raise UnknownJobError("no such task")
        pieces = await to_its_end(self.pieces, format_, found)
        first = await one_of(self.slots, to_its_end(next, pieces))
        headers = {"Content-Disposition": f'attachment; filename="{self.name}-{job.id}.{format_}"'}
        return StreamingResponse(
            sent(first, pieces, exchange),
            headers=None if format_ == "json" else headers,
            media_type=results.FORMATS[format_],
        )

    def pieces(self, format_: str, found: list[str]) -> Iterator[bytes]:
        """Return the pieces of a result."""
        read = self.jobs.read_result
        names = output_names(self.model, read(found[0]))
        if format_ == "csv":
            return results.csv_pieces(found, read, names)
        if format_ == "parquet":
            return results.parquet_pieces(found, read, names, self.model.outputs)
        return results.json_pieces(found, read, names, fixed_fields(self.model))

    async def cancel(self, request: Request) -> Response:
        """Cancel a job, which ends after the chunk that is being computed."""
        named = await self.job(request)
        job, changed = await self.jobs.store.cancel(named.id, named.owner)
        if changed:
            metrics.jobs_finished.labels(*job.model_id, job.state.value).inc()
        return json_response(job.described())

    async def retry(self, request: Request) -> Response:
        """Submit the file of a finished job again, to the model's default version."""
        job = await self.job(request)
        if not job.state.is_final:
            raise UnfinishedError(f"task {job.id} is not completed yet")
        again = await self.jobs.submit(job.owner, self.registry.get(self.name).id, job, job.digest, None)
        return self.accepted(again, request.scope[EXCHANGE])

    async def listing(self, request: Request) -> Response:
        """Answer the newest jobs of a key; RefusedError where no keys are needed."""
        exchange: Exchange = request.scope[EXCHANGE]
        if exchange.owner is None:  # the list would give away what ids that nobody can guess protect
            error = "there is a list for each API key only, and this server needs none"
            raise RefusedError(error_response(HTTPStatus.FORBIDDEN, error))
        found = await self.jobs.store.jobs(self.name, exchange.owner, limit_of(request))
        return json_response({"tasks": [job.described() for job in found]})

    async def delete(self, request: Request) -> Response:
        """Cancel a job where it is not finished, and forget it with its files."""
        job = await self.job(request)
        await self.jobs.delete(job)
        return json_response({"task_id": job.id})

    async def job(self, request: Request) -> Job:
        """Return the job that a request names; raise UnknownJobError for those of other models and owners."""
        job = await self.jobs.store.job(task_id(request), owner_of(request.scope[EXCHANGE]))
        if job.model_id.name != self.name:
            raise UnknownJobError("no such task")
        return job


async def sent(first: bytes, rest: Iterator[bytes], exchange: Exchange) -> Any:
    """Yield pieces of an answer; each may take as long as an answer may."""
    yield first
    while (piece := await to_its_end(next, rest, None)) is not None:
        exchange.deadline.renew(exchange.deadline.answer_seconds)
        yield piece


def task_id(request: Request) -> str:
    """Return the id in a request; RefusedError without one, UnknownJobError where no job can have it."""
    given = request.query_params.get("task_id")
    if not given:
        raise RefusedError(error_response(HTTPStatus.BAD_REQUEST, "task_id is required"))
    if not TASK_ID.fullmatch(given):
        raise UnknownJobError("no such task")
    return given


def owner_of(exchange: Exchange) -> str:
    """Return whose jobs a request is about: those of its key, or everybody's where none is needed."""
    return exchange.owner or ""


def idempotency_key(exchange: Exchange) -> str | None:
    """Return the request's Idempotency-Key, if any; RefusedError for one that cannot be kept."""
    given = exchange.headers.get(b"idempotency-key")
    if given is None:
        return None
    key = given.decode("latin-1")
    if not IDEMPOTENCY_KEY.fullmatch(key):
        detail = {"loc": ["header", "Idempotency-Key"], "msg": "must have 1 to 255 characters of ASCII, no spaces"}
        raise RefusedError(validation_response([{**detail, "type": "idempotency_key"}]))
    return key


def format_of(request: Request) -> str:
    """Return the format that `format` or Accept ask for; RefusedError for others."""
    asked = request.query_params.get("format")
    if asked is None:
        accepted = results.of_media_type(request.headers.get("accept", "*/*"))
        if accepted is None:
            error = f"the result can be {', '.join(results.FORMATS.values())}"
            raise RefusedError(error_response(HTTPStatus.NOT_ACCEPTABLE, error))
        return accepted
    if asked not in results.FORMATS:
        detail = {"loc": ["query", "format"], "msg": f"must be {', '.join(results.FORMATS)}", "type": "enum"}
        raise RefusedError(validation_response([detail]))
    return asked


def limit_of(request: Request) -> int:
    """Return how many jobs a list may have."""
    given = request.query_params.get("limit", str(MAX_LISTED))
    if not given.isascii() or not given.isdecimal() or not 0 < int(given[:9]) <= MAX_LISTED:
        detail = {"loc": ["query", "limit"], "msg": f"must be a number from 1 to {MAX_LISTED}", "type": "int_range"}
        raise RefusedError(validation_response([detail]))
    return int(given)


def digest_of(file: Path) -> str:
    """Return a digest of a file's content."""
    digest = blake2b(digest_size=16)
    with file.open("rb") as content:
        for piece in iter(partial(content.read, DIGEST_BYTES), b""):
            digest.update(piece)
    return digest.hexdigest()

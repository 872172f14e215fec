"""Locust's users: a class per model, one for files and one for all models. They check the answers they get.

They ask by the protocols of `--protocol`, drawing one for each request.
"""

from __future__ import annotations

import functools
import itertools
import random
import time
from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import Any

import gevent
import grpc
from locust import FastHttpUser, between, constant_throughput, task
from locust.env import Environment
from locust.exception import CatchResponseError

from loadtest import answers, inputs
from loadtest.connections import keep_connections
from loadtest.grpc_client import GrpcClient, refusal, target_of
from loadtest.inputs import Request
from loadtest.openapi import ServedModels, discover, tls_context
from loadtest.profiles import POOL, PROFILES, WEIGHTS
from loadtest.protocols import GRPC, PREDICT, V2_BINARY
from loadtest.tensors import HEADER_LENGTH, json_bytes_of

FILE_ROWS = 10_000

keep_connections()


@functools.cache
def fresh() -> itertools.count[int]:
    """Return numbers that most likely no other process or run uses; first called once Locust has forked."""
    return itertools.count(random.SystemRandom().getrandbits(48))


@functools.cache
def known(made: Callable[[int], Request], number: int) -> Request:
    """Return a request, which is made only once."""
    return made(number)


@functools.cache
def file_of_rows() -> Request:
    """Return the upload of the file, which is made only once."""
    return inputs.segmentation_file(next(fresh()), FILE_ROWS)


def make_file(environment: Environment, **_: object) -> None:
    """Make the file, which takes a second or two, before there are users whose requests would be held up."""
    if environment.parsed_options is not None and "FileUser" in PROFILES[environment.parsed_options.profile].users:
        gevent.get_hub().threadpool.apply(file_of_rows)


class ModelUser(FastHttpUser):
    """A user of one model; a share of `--cache-rate` of its requests repeats inputs."""

    abstract = True
    model = ""
    network_timeout = 30.0
    connection_timeout = 10.0

    def __init__(self, environment: Environment) -> None:
        options = environment.parsed_options
        assert options is not None  # noqa: S101  Locust's command line sets them
        self.ssl_context_factory = functools.partial(tls_context, options.ca_file)
        super().__init__(environment)
        profile = PROFILES[options.profile]
        self.per_user = None if options.pause else profile.per_user
        self.pause = constant_throughput(self.per_user) if self.per_user else between(*options.pause or profile.pause)
        self.cache_rate: float = options.cache_rate
        self.only: str | None = options.model
        self.api_key: str = options.api_key
        self.ca_file: str = options.ca_file
        self.protocols: list[str] = options.protocol
        self.grpc_target: str = options.grpc_target
        self.grpc: GrpcClient | None = None
        self.served: ServedModels

    def wait_time(self) -> float:
        """Return the seconds until the next request, as `--pause` or else the profile defines them."""
        return float(self.pause(self))

    def on_start(self) -> None:
        """Discover the server's models, and start out of step with the other users."""
        assert self.host is not None  # noqa: S101  it has a default
        self.served = discover(self.host.rstrip("/"), self.api_key, self.ca_file)
        if GRPC in self.protocols:
            self.grpc = GrpcClient(target_of(self.host, self.grpc_target), self.api_key, self.ca_file)
        for protocol in self.protocols:
            for made in self.served.requests[protocol].values():
                known(made, 0)  # the first picture takes as long as hundreds
        if self.per_user:
            gevent.sleep(random.random() / self.per_user)  # noqa: S311

    def on_stop(self) -> None:
        """Close the connection of gRPC."""
        if self.grpc is not None:
            self.grpc.close()

    def ask(self, model: str, request: Request, protocol: str, rows: int = 1, **headers: str) -> None:
        """Send a request by a protocol, and report a fault in its answer to Locust."""
        if protocol == GRPC:
            self.call(model, request, rows)
            return
        headers = {"Content-Type": request.content_type, **headers}
        if request.json_bytes is not None:
            headers[HEADER_LENGTH] = str(request.json_bytes)
        if self.api_key:
            headers["X-API-Key"] = self.api_key
        body: Any = request.body  # bytes are accepted, though not declared
        name = f"{request.path} binary" if protocol == V2_BINARY else request.path
        with self.client.post(request.path, name=name, data=body, headers=headers, catch_response=True) as response:
            found = response.content or b""
            labels = self.served.labels[model]
            problem: str | None
            if response.status_code == 0:
                problem = f"no answer: {type(response.error).__name__}"
            elif response.status_code != 200:
                problem = answers.refusal(response.status_code, found)
            elif protocol == PREDICT:
                problem = answers.fault(model, found, labels, rows)
            else:
                problem = answers.body_fault(model, found, json_bytes_of(response.headers), labels, rows)
            if problem:
                response.failure(problem)

    def call(self, model: str, request: Request, rows: int) -> None:
        """Send a request by gRPC, and report it to Locust as its own client reports those of HTTP."""
        assert self.grpc is not None  # noqa: S101  made in on_start
        answer = b""
        metadata: Mapping[str, str] = {}
        problem: str | None = None
        started = time.perf_counter()
        try:
            answer, metadata = self.grpc.ask(request.body, self.network_timeout)
        except grpc.RpcError as error:
            problem = refusal(error, answers.MESSAGE_CHARACTERS)
        milliseconds = (time.perf_counter() - started) * 1000
        problem = problem or answers.message_fault(model, answer, self.served.labels[model], rows)
        self.environment.events.request.fire(
            request_type="gRPC",
            name=f"{request.path} {model}",
            response_time=milliseconds,
            response_length=len(answer),
            response=SimpleNamespace(headers=metadata),
            context={},
            exception=CatchResponseError(problem) if problem else None,
        )

    def choose(self, protocol: str) -> str:
        """Return the model that the next request, by this protocol, is for."""
        return self.model

    @task
    def predict(self) -> None:
        """Send one request with an input that is known or new."""
        protocol = random.choice(self.protocols)  # noqa: S311
        model = self.choose(protocol)
        made = self.served.requests[protocol][model]
        repeated = random.random() < self.cache_rate  # noqa: S311
        self.ask(model, known(made, random.randrange(POOL)) if repeated else made(next(fresh())), protocol)  # noqa: S311


class SentimentUser(ModelUser):
    """A user who has texts classified."""

    model = "sentiment"


class BreastCancerUser(ModelUser):
    """A user who has tumours classified."""

    model = "breast_cancer"


class SegmentationUser(ModelUser):
    """A user who has customers classified, one at a time."""

    model = "segmentation"


class ImageUser(ModelUser):
    """A user who has pictures classified."""

    model = "image"


class MixedUser(ModelUser):
    """A user of all models that the server has; those not known here get variations of their example.

    With `--model`, a user of only that one.
    """

    def choose(self, protocol: str) -> str:
        """Return the model that the next request is for: more often one with small requests."""
        models = [self.only] if self.only else list(self.served.requests[protocol])
        return random.choices(models, [WEIGHTS.get(model, 1) for model in models])[0]  # noqa: S311


class FileUser(ModelUser):
    """A single user who uploads a file of 10 000 rows again and again, past the caches, whatever the protocol."""

    model = "segmentation"
    fixed_count = 1

    def wait_time(self) -> float:
        """Return the seconds until the next file."""
        return random.uniform(1, 3)  # noqa: S311

    @task
    def predict(self) -> None:
        """Upload the file."""
        self.ask(self.model, file_of_rows(), PREDICT, FILE_ROWS, **{"Cache-Control": "no-store"})

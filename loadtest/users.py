"""Locust's users: a class per model, one for files and one for all models. They check the answers they get."""

from __future__ import annotations

import functools
import itertools
import random
from collections.abc import Callable
from typing import Any

import gevent
from locust import FastHttpUser, between, constant_throughput, task
from locust.env import Environment

from loadtest import answers, inputs
from loadtest.inputs import Request
from loadtest.openapi import ServedModels, discover, tls_context
from loadtest.profiles import POOL, PROFILES

# How often MixedUser chooses each model; others as often as images.
WEIGHTS = {"sentiment": 4, "breast_cancer": 3, "segmentation": 2, "image": 1}
FILE_ROWS = 10_000


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
        self.per_user = profile.per_user
        self.pause = constant_throughput(profile.per_user) if profile.per_user else between(*profile.pause)
        self.cache_rate: float = options.cache_rate
        self.only: str | None = options.model
        self.api_key: str = options.api_key
        self.ca_file: str = options.ca_file
        self.served: ServedModels

    def wait_time(self) -> float:
        """Return the seconds until the next request, as the profile defines them."""
        return float(self.pause(self))

    def on_start(self) -> None:
        """Discover the server's models, and start out of step with the other users."""
        assert self.host is not None  # noqa: S101  it has a default
        self.served = discover(self.host.rstrip("/"), self.api_key, self.ca_file)
        for made in self.served.requests.values():
            known(made, 0)  # the first picture takes as long as hundreds
        if self.per_user:
            gevent.sleep(random.random() / self.per_user)  # noqa: S311

    def ask(self, model: str, request: Request, rows: int = 1, **headers: str) -> None:
        """Send a request, and report a fault in its answer to Locust."""
        headers = {"Content-Type": request.content_type, **headers}
        if self.api_key:
            headers["X-API-Key"] = self.api_key
        body: Any = request.body  # bytes are accepted, though not declared
        with self.client.post(request.path, data=body, headers=headers, catch_response=True) as response:
            found = response.content or b""
            if response.status_code == 0:
                response.failure(f"no answer: {type(response.error).__name__}")
            elif response.status_code != 200:
                response.failure(answers.refusal(response.status_code, found))
            elif problem := answers.fault(model, found, self.served.labels[model], rows):
                response.failure(problem)

    def choose(self) -> str:
        """Return the model that the next request is for."""
        return self.model

    @task
    def predict(self) -> None:
        """Send one request with an input that is known or new."""
        model = self.choose()
        made = self.served.requests[model]
        repeated = random.random() < self.cache_rate  # noqa: S311
        self.ask(model, known(made, random.randrange(POOL)) if repeated else made(next(fresh())))  # noqa: S311


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

    def choose(self) -> str:
        """Return the model that the next request is for: more often one with small requests."""
        models = [self.only] if self.only else list(self.served.requests)
        return random.choices(models, [WEIGHTS.get(model, 1) for model in models])[0]  # noqa: S311


class FileUser(ModelUser):
    """A single user who uploads a file of 10 000 rows again and again, past the caches."""

    model = "segmentation"
    fixed_count = 1

    def wait_time(self) -> float:
        """Return the seconds until the next file."""
        return random.uniform(1, 3)  # noqa: S311

    @task
    def predict(self) -> None:
        """Upload the file."""
        self.ask(self.model, file_of_rows(), FILE_ROWS, **{"Cache-Control": "no-store"})

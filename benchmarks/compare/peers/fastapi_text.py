"""A text classifier on FastAPI with fastapi-cache2 on Redis: the answer to a whole request is cached.

fastapi-cache2 never caches a POST route, so the function behind the route is decorated; it runs a plain function in
FastAPI's thread pool.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from engine import load
from fastapi import FastAPI
from fastapi_cache import FastAPICache
from fastapi_cache.backends.redis import RedisBackend
from fastapi_cache.decorator import cache
from pydantic import BaseModel
from redis import asyncio as aioredis

TTL_SECONDS = 180
classify = load()


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[None]:
    """Connect to Redis."""
    FastAPICache.init(RedisBackend(aioredis.from_url(os.environ["REDIS_URL"])), prefix="fastapi-cache")
    yield


app = FastAPI(lifespan=lifespan)


class Texts(BaseModel):
    """The texts of a request."""

    text: list[str]


class LabelScore(BaseModel):
    """A label and its probability."""

    label: str
    score: float


class Sentiments(BaseModel):
    """All labels of each text."""

    predictions: list[list[LabelScore]]


@cache(expire=TTL_SECONDS)
def predictions(text: list[str]) -> list[list[dict[str, str | float]]]:
    """Classify the texts of a request as one batch."""
    return classify(text)


@app.post("/predict")
async def predict(request: Texts) -> Sentiments:
    """Classify texts."""
    return Sentiments.model_validate({"predictions": await predictions(request.text)})

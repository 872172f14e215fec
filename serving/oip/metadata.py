"""What the protocol tells of the server and its models; field by field as its messages have it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from models.model import Column, Model
from serving.inference.predictor import Predictor
from serving.inference.registry import ModelId, Registry
from serving.telemetry import metrics

SERVER = "tiffin"
# Triton's names of the extensions that this server has.
EXTENSIONS = ["binary_tensor_data", "parameters", "model_repository", "model_configuration", "statistics"]
PLATFORM, BACKEND = "onnxruntime_onnx", "onnxruntime"
READY, UNAVAILABLE = "READY", "UNAVAILABLE"
NANOSECONDS = 1e9

Fields = dict[str, Any]


def server_metadata(version: str) -> Fields:
    """Return what is known of the server, which has this version."""
    return {"name": SERVER, "version": version, "extensions": EXTENSIONS}


def model_metadata(registry: Registry, predictor: Predictor) -> Fields:
    """Return the loaded versions of a model, its inputs and its outputs; -1 stands for any size."""
    model = type(predictor.model)
    return {
        "name": predictor.id.name,
        "versions": registry.versions(predictor.id.name),
        "platform": PLATFORM,
        "inputs": list(map(tensor_metadata, model.inputs)),
        "outputs": list(map(tensor_metadata, model.outputs)),
    }


def tensor_metadata(column: Column) -> Fields:
    """Return name, datatype and shape of a column."""
    described = column.described()
    return {key: described[key] for key in ("name", "datatype", "shape")}


def model_config(predictor: Predictor) -> Fields:
    """Return Triton's configuration of a model; dimensions go without that of the rows."""
    model: type[Model[Any]] = type(predictor.model)
    return {
        "name": predictor.id.name,
        "platform": PLATFORM,
        "backend": BACKEND,
        "max_batch_size": model.max_items,
        "input": [config_of(column) | {"optional": column.optional} for column in model.inputs],
        "output": list(map(config_of, model.outputs)),
        "dynamic_batching": {"preferred_batch_size": [predictor.batcher.max_batch]},
    }


def config_of(column: Column) -> Fields:
    """Return what a model's configuration says of a column."""
    datatype = "STRING" if column.datatype == "BYTES" else column.datatype
    return {"name": column.name, "data_type": f"TYPE_{datatype}", "dims": column.described()["shape"][1:]}


def repository_index(registry: Registry, stored: Sequence[ModelId]) -> list[Fields]:
    """Return the state of each version of a model, those in the store, oldest first, and those that are loaded.

    Of each model the newest comes first.
    """
    loaded = {predictor.id for predictor in registry}
    age = {model_id: place for place, model_id in enumerate(reversed(stored))}
    return [
        {
            "name": name,
            "version": version,
            "state": READY if (name, version) in loaded else UNAVAILABLE,
            "reason": "" if (name, version) in loaded else "not loaded",
        }
        for name, version in sorted(loaded.union(stored), key=lambda each: (each.name, age.get(each, 0), each.version))
    ]


def statistics(registry: Registry, asked: Predictor | None, *, all_versions: bool = False) -> Fields:
    """Return Triton's statistics of the version that is asked for, of all of its model, or without one of all models.

    They are summed over the workers since their start. Answers from the response cache are successes too; what was in
    the prediction cache counts as a hit, an item each. What is not measured is 0 or empty, as Triton's tools read it.
    Reading the metrics takes milliseconds: call it in a thread.
    """
    samples = metrics.samples()
    chosen = [
        predictor
        for predictor in registry
        if asked is None or predictor is asked or (all_versions and predictor.id.name == asked.id.name)
    ]
    return {"model_stats": [statistics_of(predictor, samples) for predictor in chosen]}


def statistics_of(predictor: Predictor, samples: metrics.Samples) -> Fields:
    """Return the statistics of one model from the samples of all metrics."""
    model = dict(zip(metrics.MODEL, predictor.id, strict=True))
    total = samples.total

    def duration(count: float, seconds: float = 0.0) -> Fields:
        return {"count": int(count), "ns": int(seconds * NANOSECONDS)}

    def of_histogram(name: str, **labels: str) -> Fields:
        return duration(total(f"{name}_count", **labels), total(f"{name}_sum", **labels))

    cache = {"cache": predictor.id.name, "version": predictor.id.version}
    hits = {
        tier: total("tiffin_cache_lookups_total", **cache, tier=tier, outcome="hit") for tier in ("memory", "redis")
    }
    misses = total("tiffin_cache_lookups_total", **cache, tier="memory", outcome="miss") - hits["redis"]
    return {
        "name": predictor.id.name,
        "version": predictor.id.version,
        "last_inference": int(total("tiffin_last_inference_timestamp_seconds", **model) * 1000),
        "inference_count": int(total("tiffin_batch_items_sum", **model)),
        "execution_count": int(total("tiffin_inference_seconds_count", **model)),
        "inference_stats": {
            "success": of_histogram("tiffin_request_seconds", **model, outcome="success"),
            "fail": of_histogram("tiffin_request_seconds", **model, outcome="fail"),
            "queue": of_histogram("tiffin_queue_seconds", **model),
            "compute_input": duration(0),
            "compute_infer": of_histogram("tiffin_inference_seconds", **model),
            "compute_output": duration(0),
            "cache_hit": duration(sum(hits.values())),
            "cache_miss": duration(misses),
        },
        "batch_stats": [],
    }

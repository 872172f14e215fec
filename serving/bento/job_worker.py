"""The process that only computes background jobs: `python -m serving.jobs.worker`."""

from __future__ import annotations

import asyncio
import logging
import signal
import sys

import prometheus_client

from serving.bento import start, store
from serving.bento.loading import load_all
from serving.inference.predictor import NoCache
from serving.inference.registry import Registry
from serving.jobs.background import BackgroundJobs
from serving.settings import Settings
from serving.telemetry import logs, metrics, tracing

log = logging.getLogger("tiffin.jobs")


def main() -> None:
    """Compute jobs until SIGTERM or SIGINT."""
    settings = start.read_settings()
    if settings.job_store is None:
        sys.exit("TIFFIN_JOB_STORE: must say where jobs are kept, for a worker to have some")
    start.prepare(settings.models)
    start.check_models(settings.models)
    asyncio.run(serve(settings))


async def serve(settings: Settings) -> None:
    """Load the models, and compute jobs until the process is told to end."""
    logs.configure(access_log=False)
    if settings.otel_exporter_otlp_endpoint is not None:
        tracing.start(settings.otel_exporter_otlp_endpoint.get_secret_value(), "development")
    ending = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, ending.set)
    registry = Registry()
    for predictor in await load_all(store.stored_models(settings.models, None), NoCache(), settings):
        registry.add(predictor)
    jobs = BackgroundJobs(settings, registry, has_worker=True)
    if settings.job_metrics_port:
        prometheus_client.ProcessCollector(registry=metrics.registry)
        prometheus_client.start_http_server(settings.job_metrics_port, registry=metrics.registry)
    jobs.start()
    log.info("working: %s", ", ".join(str(predictor.id) for predictor in registry))
    await ending.wait()
    log.info("ending: chunks that are not computed within %g s go to other workers", settings.shutdown_grace_seconds)
    await jobs.stop(settings.shutdown_grace_seconds)
    registry.close()
    tracing.stop()

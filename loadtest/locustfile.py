"""Run by Locust: `locust --locustfile loadtest/locustfile.py --profile smoke --headless`, see docs/load-tests.md."""

from __future__ import annotations

import argparse
import socket
import sys
from argparse import Namespace
from dataclasses import fields
from pathlib import Path
from typing import Any

from locust import events, stats
from locust.argument_parser import LocustArgumentParser
from locust.env import Environment
from locust.runners import MasterRunner, Runner, WorkerRunner

from loadtest.grpc_client import target_of
from loadtest.openapi import TIMEOUT_SECONDS, ServerError, discover
from loadtest.profiles import CACHE_RATE, PROFILES, Objectives
from loadtest.protocols import GRPC, PREDICT, PROTOCOLS
from loadtest.report import Report
from loadtest.shape import ProfileShape
from loadtest.users import (
    BreastCancerUser,
    FileUser,
    ImageUser,
    MixedUser,
    ModelUser,
    SegmentationUser,
    SentimentUser,
    make_file,
)

__all__ = [
    "BreastCancerUser",
    "FileUser",
    "ImageUser",
    "MixedUser",
    "ProfileShape",
    "SegmentationUser",
    "SentimentUser",
]

stats.PERCENTILES_TO_CHART = [0.5, 0.95, 0.99]
stats.PERCENTILES_TO_STATISTICS = [0.95, 0.99, 0.9999]


def share(text: str) -> float:
    """Parse a number from 0 to 1; raise argparse.ArgumentTypeError for any other."""
    value = float(text)
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text} is not between 0 and 1")
    return value


def protocols(text: str) -> list[str]:
    """Parse names of protocols; raise argparse.ArgumentTypeError for any other name."""
    found = text.split(",")
    for name in found:
        if name not in PROTOCOLS:
            raise argparse.ArgumentTypeError(f"there is no protocol {name}, there are {', '.join(PROTOCOLS)}")
    return found


def pause(text: str) -> tuple[float, float]:
    """Parse seconds, `1` or `1-3`; raise argparse.ArgumentTypeError where they are no range."""
    low, _, high = text.partition("-")
    found = float(low), float(high or low)
    if not 0 <= found[0] <= found[1]:
        raise argparse.ArgumentTypeError(f"{text} is no range of seconds")
    return found


def options(parser: LocustArgumentParser) -> None:
    """Add our own options; Locust's `--profile` names one of our profiles."""

    def add(name: str, text: str, **more: Any) -> None:
        parser.add_argument(name, help=text, include_in_web_ui=False, **more)

    # Requests in flight when users are stopped are still awaited and counted.
    parser.set_defaults(host="http://localhost:3000", profile="smoke", stop_timeout=15)
    add("--minutes", "the profile's length instead of its own", type=float)
    add("--cache-rate", "share of repeated inputs", type=share, default=CACHE_RATE)
    add("--pause", "SECONDS, or FROM-TO, that users wait between requests, instead of the profile's", type=pause)
    add("--protocol", f"of {', '.join(PROTOCOLS)}; of several, each request has one", type=protocols, default=PREDICT)
    add("--grpc-target", "HOST:PORT of gRPC, https:// before it for TLS; by default port 8001 of the host", default="")
    add("--model", "the only model that mixed users ask, whatever the server has")
    add("--api-key", "key for the server", env_var="LOADTEST_API_KEY", is_secret=True, default="")
    add("--ca-file", "PEM file of the authority that signed the server's certificate", env_var="CA_FILE", default="")
    add("--deployment", "Kubernetes Deployment whose growth ends the profile stress")
    add("--namespace", "its namespace")
    add("--reports", "folder of the reports", type=str, default="reports")
    for field in fields(Objectives):
        text = "at least" if field.name in ("hit_rate", "rate") else "at most"
        add(f"--{field.name.replace('_', '-')}", f"objective: {field.name}, {text}", type=float)


def prepare(environment: Environment, runner: Runner, **_: object) -> None:
    """Set up Locust for the profile; exit with 2 if the server cannot be tested."""
    given = environment.parsed_options
    assert given is not None  # noqa: S101  the command line was parsed
    if given.profile not in PROFILES:
        refuse(f"there is no profile {given.profile}, there are {', '.join(PROFILES)}")
    profile = PROFILES[given.profile].scaled(given.minutes)
    overrides = {field.name: getattr(given, field.name) for field in fields(Objectives)}
    usual = given.cache_rate == CACHE_RATE and given.protocol == [PREDICT] and given.pause is None
    objectives = profile.objectives.overridden(overrides, usual=usual)
    report = Report(environment, profile, objectives, Path(given.reports) / given.profile)
    environment.events.test_start.add_listener(make_file)
    if isinstance(runner, WorkerRunner):
        environment.events.request.add_listener(report.count)
        environment.events.report_to_master.add_listener(report.send_counts)
        return
    if isinstance(runner, MasterRunner):
        environment.events.worker_report.add_listener(report.add_counts)
    else:
        environment.events.request.add_listener(report.count)
    environment.events.test_start.add_listener(report.start)
    environment.events.test_stop.add_listener(report.stop)
    assert environment.available_user_classes is not None  # noqa: S101  Locust found them in this file
    environment.user_classes[:] = [environment.available_user_classes[name] for name in profile.users]  # type: ignore[misc]
    shape = environment.shape_class
    assert isinstance(shape, ProfileShape)  # noqa: S101  the only one in this file
    shape.report = report
    try:
        check(environment, given)
        if given.deployment:
            shape.watch(given.deployment, given.namespace)
    except ServerError as error:
        refuse(str(error))
    if not usual:
        print(
            f"objectives but for errors are for {PREDICT}, a cache rate of {CACHE_RATE} and the profile's own pauses: "
            "only those given are judged"
        )


def check(environment: Environment, given: Namespace) -> None:
    """Raise ServerError unless the server is ready and has the models that the users send requests to."""
    host = (environment.host or "").rstrip("/")
    requests = discover(host, given.api_key, given.ca_file).requests
    classes = [user for user in environment.user_classes if issubclass(user, ModelUser)]
    needed = {user.model or given.model for user in classes} - {None}
    for protocol in given.protocol:
        served = requests[protocol]
        by = "" if protocol == PREDICT else f" by {protocol}"
        for model in sorted(needed - served.keys()):
            raise ServerError(f"{host} has no model {model}{by}, it has {', '.join(served) or 'none'}")
        if not served:
            raise ServerError(f"{host} has no model that can be asked{by}")
    if GRPC in given.protocol:
        check_port(target_of(host, given.grpc_target).address)


def check_port(target: str) -> None:
    """Raise ServerError unless something listens at HOST:PORT."""
    host, _, port = target.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), TIMEOUT_SECONDS).close()
    except (OSError, ValueError) as error:
        raise ServerError(f"{target} does not answer, where gRPC is expected: {error}") from error


def refuse(reason: str) -> None:
    """Print the reason and exit with 2."""
    print(reason, file=sys.stderr)
    sys.exit(2)


events.init_command_line_parser.add_listener(options)
events.init.add_listener(prepare)

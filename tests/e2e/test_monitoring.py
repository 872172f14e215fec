"""A real Prometheus reads a pod under mixed load: the dashboard shows data, and an alert fires and ends."""

from __future__ import annotations

import itertools
import random
import re
import shutil
import threading
import time
from collections.abc import Iterator
from typing import Any

import grpc
import httpx
import numpy as np
import pytest
import yaml
from PIL import Image

from loadtest.messages import MODEL_INFER, infer_request
from loadtest.processes import free_port, running
from loadtest.tensors import BYTES, Tensor
from tests.e2e.dashboard import Panel, Prometheus, draw, panels
from tests.support import ROOT
from tests.support.clocks import wait_until
from tests.support.containers import Pod
from tests.support.photos import saved
from tests.support.rows import ROW, TUMOUR
from tests.support.watched import KNOWN

PICTURE = ROOT / "reports" / "dashboard.png"
# Little load: on a busy machine Redis would often be too slow for the server.
CLIENTS = 2
PAUSE_SECONDS = 0.1
SCRAPE_SECONDS = 2
RATE_INTERVAL = "20s"
# The length of a minute of the rules in these tests.
MINUTE_SECONDS = 15
DATA_SECONDS = 300
ALERT_SECONDS = 600
# Rows of a job that goes on as long as these tests do.
JOB_ROWS = 200_000


class MixedLoad:
    """Sends requests to all models from threads until it is stopped, some of them invalid, and keeps the outcomes.

    Meanwhile the server computes a background job.
    """

    def __init__(self, address: str, grpc_target: str) -> None:
        self.address = address
        self.grpc_target = grpc_target
        self.started = time.time()
        self.numbers = itertools.count()
        self.outcomes: set[int | str] = set()
        self.stopped = threading.Event()
        self.threads = [threading.Thread(target=self.run, args=[client]) for client in range(CLIENTS)]

    def start(self) -> None:
        """Submit the job, and begin to send requests."""
        texts = "\n".join(f"part {number} of it is a delight" for number in range(JOB_ROWS))
        files = {"file": ("texts.csv", f"text\n{texts}\n".encode())}
        httpx.post(f"{self.address}/sentiment/score/submit", files=files, timeout=60).raise_for_status()
        for thread in self.threads:
            thread.start()

    def requests(self, rng: random.Random) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yield some requests that were sent before, and a new one of each kind."""
        number = next(self.numbers)
        yield from rng.choices(KNOWN, k=8)
        yield "/sentiment/predict", {"json": {"text": [f"film {number}, a delight"] * rng.choice([1, 8])}}
        yield "/breast_cancer/predict", {"json": TUMOUR | {"area_worst": 2019 + number}}
        yield "/segmentation/predict", {"json": {"data": [ROW | {"x91": number + row / 100} for row in range(20)]}}
        pixels = np.random.default_rng(number).integers(0, 256, (8, 8, 3), np.uint8)
        yield "/image/predict", {"files": {"image_file": ("picture", saved(Image.fromarray(pixels), "PNG"))}}
        films = {"name": "text", "datatype": "BYTES", "shape": [1], "data": [f"film {number}, a bore"]}
        yield "/v2/models/sentiment/infer", {"json": {"inputs": [films]}}
        yield "/sentiment/predict", {"json": {"text": []}}

    def run(self, seed: int) -> None:
        rng = random.Random(seed)
        with (
            httpx.Client(base_url=self.address, timeout=30) as client,
            grpc.insecure_channel(self.grpc_target) as channel,
        ):
            infer = channel.unary_unary(MODEL_INFER)
            while not self.stopped.is_set():
                text = Tensor("text", BYTES, (1,), [f"film {next(self.numbers)}, a joy"])
                try:
                    infer(infer_request("sentiment", [text]), timeout=30)
                except grpc.RpcError as error:
                    self.outcomes.add(repr(error))
                for path, arguments in self.requests(rng):
                    try:
                        self.outcomes.add(client.post(path, **arguments).status_code)
                    except httpx.HTTPError as error:
                        self.outcomes.add(repr(error))
                    self.stopped.wait(PAUSE_SECONDS)

    def stop(self) -> None:
        """Stop sending, and return when the last request is answered."""
        self.stopped.set()
        for thread in self.threads:
            thread.join(60)


@pytest.fixture(scope="module")
def load(pod: Pod) -> Iterator[MixedLoad]:
    """Put load on the pod."""
    made = MixedLoad(pod.address, pod.grpc_target)
    made.start()
    yield made
    made.stop()


def with_short_minutes(rules: str) -> str:
    """Return the rules with minutes of MINUTE_SECONDS; `make rules` tests them with whole minutes."""
    shortened = re.sub(r"(?<=\[)(\d+)m(?=\])|(?<=for: )(\d+)m", seconds, rules)
    assert f"[{MINUTE_SECONDS}s]" in shortened
    assert f"for: {MINUTE_SECONDS}s" in shortened
    return shortened


def seconds(minutes: re.Match[str]) -> str:
    """Return the seconds that stand for these minutes."""
    return f"{int(minutes[1] or minutes[2]) * MINUTE_SECONDS}s"


@pytest.fixture(scope="module")
def prometheus(pod: Pod, load: MixedLoad, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """Yield a Prometheus as in compose.yaml, but of the pod, with shorter intervals and minutes."""
    program = shutil.which("prometheus")
    if program is None:
        pytest.exit("these tests need Prometheus: apt-get install --no-install-recommends prometheus", returncode=2)
    folder = tmp_path_factory.mktemp("prometheus")
    rule = ROOT / "k8s" / "components" / "monitoring" / "prometheus-rule.yaml"
    rules = folder / "rules.yaml"
    spec = yaml.safe_load(with_short_minutes(rule.read_text(encoding="utf-8")))["spec"]
    rules.write_text(yaml.safe_dump(spec), encoding="utf-8")
    config = yaml.safe_load((ROOT / "monitoring" / "prometheus.yml").read_text(encoding="utf-8"))
    config["global"] = dict.fromkeys(("scrape_interval", "scrape_timeout", "evaluation_interval"), f"{SCRAPE_SECONDS}s")
    config["rule_files"] = [str(rules)]
    config["scrape_configs"][0]["static_configs"][0]["targets"] = [pod.address.removeprefix("http://")]
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config), encoding="utf-8")
    listen = f"127.0.0.1:{free_port()}"
    command = [program, f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/data"]
    with running([*command, f"--web.listen-address={listen}"], f"http://{listen}", "/-/ready", {}, folder):
        yield Prometheus(f"http://{listen}")


def without_data(prometheus: Prometheus, shown: list[Panel]) -> list[str]:
    """Return the panels' expressions that gave no number within the last minute."""
    now = time.time()
    expressions = [target.expression for panel in shown for target in panel.targets]
    return [expression for expression in expressions if not prometheus.series(expression, now - 60, now)]


def test_every_rule_is_evaluated_without_an_error(prometheus: Prometheus) -> None:
    def health() -> set[str]:
        groups = prometheus.ask("/rules")["groups"]
        return {f"{rule['name']}: {rule['health']} {rule.get('lastError', '')}" for g in groups for rule in g["rules"]}

    wait_until(lambda: not any(": unknown" in rule for rule in health()), DATA_SECONDS)
    assert [rule for rule in health() if not rule.endswith(": ok ")] == []


def test_every_expression_of_the_dashboard_has_data(prometheus: Prometheus) -> None:
    shown = panels(RATE_INTERVAL)
    deadline = time.monotonic() + DATA_SECONDS
    while (missing := without_data(prometheus, shown)) and time.monotonic() < deadline:
        time.sleep(SCRAPE_SECONDS)
    assert missing == []


def test_the_alert_on_redis_fires_while_redis_is_gone(prometheus: Prometheus, load: MixedLoad, pod: Pod) -> None:
    wait_until(lambda: "TiffinRedisPassedOver" not in prometheus.firing(), ALERT_SECONDS)
    pod.stop_redis()
    try:
        wait_until(lambda: "TiffinRedisPassedOver" in prometheus.firing(), ALERT_SECONDS)
    finally:
        pod.start_redis()
    wait_until(lambda: "TiffinRedisPassedOver" not in prometheus.firing(), ALERT_SECONDS)
    assert load.outcomes == {200, 422}


def test_the_panels_can_be_drawn(prometheus: Prometheus, load: MixedLoad) -> None:
    PICTURE.parent.mkdir(exist_ok=True)
    draw(prometheus, panels(RATE_INTERVAL), load.started, time.time(), PICTURE)
    assert PICTURE.stat().st_size < 200_000  # it may stand in the README

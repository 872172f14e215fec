"""loadtest/k6/load.js sends what it is told, on stand-ins for the modules of k6 that run in node."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from loadtest.k6.options import NAMES, models_of, options
from loadtest.profiles import PROFILES
from tests.support import ROOT

FOLDER = Path(__file__).resolve().parent / "k6"
TIMES = 200
JPEG = b"\xff\xd8\xff\xdb rest"
KNOWN = {
    "sentiment": json.dumps({"text": ["a fine film 0"]}),
    "breast_cancer": json.dumps({"texture_worst": 17.33, "area_worst": 2019.0}),
    "segmentation": json.dumps({"data": [{"x0": 0.0, "x5": "monday"}]}),
    "image": base64.b64encode(JPEG).decode(),
}
ANSWER = {"predictions": [], "label": "M", "class_probability": [], "Label": "cat"}

Recorded = dict[str, Any]


@pytest.fixture
def k6(tmp_path: Path) -> Callable[..., Recorded]:
    """Return a function that runs the script with a profile and returns what it did."""
    shutil.copy(ROOT / "loadtest" / "k6" / "load.js", tmp_path / "load.mjs")
    shutil.copytree(FOLDER, tmp_path / "node_modules" / "k6")

    def run(profile: str, cache_rate: float = 0.5, status: int = 200, **env: str) -> Recorded:
        known = {name: {"path": f"/{name}/predict", "weight": 1, "known": [KNOWN[name]]} for name in KNOWN}
        answers = dict(zip(KNOWN, ANSWER, strict=True))
        told = {
            "options": options(PROFILES[profile]),
            "cacheRate": cache_rate,
            "pause": PROFILES[profile].pause,
            "perUser": PROFILES[profile].per_user,
            "models": {name: known[name] | {"answer": answers[name]} for name in models_of(PROFILES[profile])},
        }
        (tmp_path / "k6.json").write_text(json.dumps(told))
        answer = json.dumps({"status": status, "headers": {"X-Cache": "hit"}, "body": ANSWER})
        done = subprocess.run(
            ["node", FOLDER / "run.mjs", "load.mjs", str(TIMES)],
            cwd=tmp_path,
            env={**os.environ, "INPUTS": "k6.json", "ANSWER": answer, **env},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        recorded: Recorded = json.loads(done.stdout)
        return recorded

    return run


def test_the_originals_stages_and_thresholds_are_those_of_its_script() -> None:
    found = options(PROFILES["sentiment"])
    assert found["scenarios"]["users"]["startVUs"] == 1
    assert found["scenarios"]["users"]["stages"] == [
        {"duration": "30s", "target": 10},
        {"duration": "420s", "target": 10},
        {"duration": "180s", "target": 0},
    ]
    assert found["thresholds"] == {
        "http_req_duration": ["p(99)<=50"],
        "http_req_failed": ["rate<=0"],
        "checks": ["rate>=1"],
        "cache_hits": ["rate>=0.9"],
        "http_reqs": ["rate>=1000"],
    }
    assert found["summaryTrendStats"] == ["min", "avg", "med", "max", "p(90)", "p(95)", "p(99)", "p(99.99)"]


@pytest.mark.parametrize("name", NAMES)
def test_a_profile_has_as_many_users_as_in_locust_but_for_that_of_files(name: str) -> None:
    users = options(PROFILES[name])["scenarios"]["users"]
    most = max([users["startVUs"], *(stage["target"] for stage in users["stages"])])
    assert most == PROFILES[name].peak - ("FileUser" in PROFILES[name].users)


def test_known_and_new_inputs_are_sent_at_the_cache_rate(k6: Callable[..., Recorded]) -> None:
    found = k6("sentiment", HOST="https://example.com/project/", LOADTEST_API_KEY="secret")
    bodies = [post["body"] for post in found["posts"]]
    known = bodies.count(KNOWN["sentiment"])
    assert TIMES * 0.3 < known < TIMES * 0.7
    assert len(set(bodies)) == TIMES - known + 1
    assert {post["url"] for post in found["posts"]} == {"https://example.com/project/sentiment/predict"}
    headers = {"Content-Type": "application/json", "X-API-Key": "secret"}
    assert all(post["headers"] == headers for post in found["posts"])
    assert found["rates"] == {"cache_hits": [True] * TIMES}
    assert found["checks"] == [True] * TIMES
    assert found["sleeps"] == []
    assert found["options"] == options(PROFILES["sentiment"])


def test_a_new_picture_differs_in_a_comment_alone(k6: Callable[..., Recorded]) -> None:
    files = [post["body"]["image_file"] for post in k6("image", cache_rate=0)["posts"]]
    made = {base64.b64decode(file["base64"]) for file in files}
    assert len(made) == TIMES
    for picture in made:
        length = int.from_bytes(picture[4:6], "big")
        assert picture[:4] == b"\xff\xd8\xff\xfe"
        assert picture[:2] + picture[4 + length :] == JPEG
        assert picture[6 : 4 + length].isdigit()


def test_users_of_all_models_ask_each_with_inputs_like_its_own(k6: Callable[..., Recorded]) -> None:
    posts = k6("smoke", cache_rate=0)["posts"]
    assert {post["url"].split("/")[3] for post in posts} == KNOWN.keys()
    for post in posts:
        model = post["url"].split("/")[3]
        if model in ("breast_cancer", "segmentation"):
            sent, known = json.loads(post["body"]), json.loads(KNOWN[model])
            assert sent != known
            assert json.dumps(sent, sort_keys=True).count(":") == json.dumps(known).count(":")


def test_users_pause_as_in_locust(k6: Callable[..., Recorded]) -> None:
    low, high = PROFILES["image"].pause
    assert all(low <= seconds <= high for seconds in k6("image")["sleeps"])
    per_user = PROFILES["segmentation"].per_user
    assert per_user is not None
    assert all(seconds <= 1 / per_user for seconds in k6("segmentation")["sleeps"])


def test_an_answer_that_is_none_fails_the_check(k6: Callable[..., Recorded]) -> None:
    assert k6("sentiment", status=503)["checks"] == [False] * TIMES

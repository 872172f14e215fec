"""What load.js reads: the inputs of the load tests. tests/k8s/test_k6.py runs the script itself."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest

from loadtest import inputs
from loadtest.k6.__main__ import main
from loadtest.profiles import POOL


def test_the_inputs_that_are_repeated_are_locusts(tmp_path: Path) -> None:
    main(["smoke", str(tmp_path / "k6.json"), "--cache-rate", "0.8"])
    found = json.loads((tmp_path / "k6.json").read_text(encoding="utf-8"))
    assert found["cacheRate"] == 0.8
    assert found["models"].keys() == inputs.REQUESTS.keys()
    for name, model in found["models"].items():
        assert model["path"] == inputs.REQUESTS[name](0).path
        assert len(model["known"]) == POOL
    for name in ("sentiment", "breast_cancer", "segmentation"):
        assert found["models"][name]["known"][3].encode() == inputs.REQUESTS[name](3).body
    assert base64.b64decode(found["models"]["image"]["known"][3]) == inputs.picture(3)


def test_a_profile_that_k6_cannot_run_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["steps", str(tmp_path / "k6.json")])
    assert "steps" in capsys.readouterr().err

"""The Bento: its contents, and that it serves where only its own requirements are installed."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import bentoml
import httpx
import psutil
import pytest

import models
from tests.support import ROOT
from tests.support.answers import answer, classify
from tests.support.photos import photo
from tests.support.processes import run_python, train
from tests.support.rows import ROW, TUMOUR
from tests.support.servers import serving
from tests.support.stores import newest


@pytest.fixture(scope="module")
def bento(store: Path) -> Path:
    """Build a Bento and return its folder."""
    done = run_python(store, "-m", "bentoml", "build", "--output", "tag")
    assert done.returncode == 0, done.stderr
    version = re.search(r"tiffin:(\w+)", done.stdout)
    assert version, done.stdout
    return store / "bentos" / "tiffin" / version[1]


@pytest.fixture(scope="module")
def python(bento: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return a Python that has only the Bento's own requirements."""
    venv = tmp_path_factory.mktemp("venv")
    subprocess.run([sys.executable, "-m", "venv", venv], check=True, timeout=120)
    requirements = bento / "env" / "python" / "requirements.txt"
    program = str(venv / ("Scripts" if sys.platform == "win32" else "bin") / "python")
    subprocess.run([program, "-m", "pip", "install", "--quiet", "-r", requirements], check=True, timeout=600)
    return program


def test_it_holds_code_and_licence_only(bento: Path) -> None:
    files = {path.relative_to(bento / "src").as_posix() for path in (bento / "src").rglob("*") if path.is_file()}
    folders = [ROOT / "models", ROOT / "serving"]
    code = {
        path.relative_to(ROOT).as_posix()
        for folder in folders
        for ending in ("py", "sql")
        for path in folder.rglob(f"*.{ending}")
    }
    code |= {path.relative_to(ROOT).as_posix() for path in (ROOT / "serving" / "http" / "static").iterdir()}
    requirements = {"requirements/serving.lock", "requirements/serving.txt"}
    assert files == code | requirements | {"service.py", "LICENSE", "NOTICE", "bentofile.yaml"}


def test_it_names_the_newest_version_of_every_model(bento: Path, store: Path) -> None:
    text = (bento / "bento.yaml").read_text(encoding="utf-8")
    for name in models.names():
        assert f"{name}:{newest(store, name).name}" in text


def test_its_requirements_are_pinned_and_need_no_training_library(bento: Path) -> None:
    lines = (bento / "env" / "python" / "requirements.txt").read_text(encoding="utf-8").splitlines()
    packages = [line for line in lines if line and not line.startswith("#")]
    assert all(re.fullmatch(r"[A-Za-z0-9._-]+==[^=; ]+( ?; ?.+)?", line) for line in packages), packages
    names = {line.partition("==")[0] for line in packages}
    assert not names & {"torch", "transformers", "scikit-learn", "skl2onnx", "peft", "pandas"}


def test_no_model_is_a_pickle(bento: Path, store: Path) -> None:
    for name in models.names():
        suffixes = {path.suffix for path in newest(store, name).iterdir()}
        assert suffixes <= {".onnx", ".json", ".yaml"}


def test_it_answers_like_the_checkout_without_training_libraries(
    client: httpx.Client, store: Path, bento: Path, python: str, tmp_path: Path
) -> None:
    probe = "import importlib.util as u; print([n for n in ('torch', 'transformers', 'sklearn') if u.find_spec(n)])"
    found = subprocess.run([python, "-c", probe], capture_output=True, text=True, check=True, timeout=60)
    assert found.stdout.strip() == "[]"
    with (
        serving(store, bento="tiffin:latest", cwd=tmp_path, python=python) as address,
        httpx.Client(base_url=address, timeout=30) as packed,
    ):
        for path, body in (
            ("/breast_cancer/predict", TUMOUR),
            ("/segmentation/predict", {"data": [ROW]}),
            ("/sentiment/predict", {"text": ["a fine film", "a bad one"]}),
        ):
            assert answer(packed.post(path, json=body)) == answer(client.post(path, json=body))
        assert answer(classify(packed, photo())) == answer(classify(client, photo()))
        assert memory_of(address) < 600 * 2**20


STARTED = """
import asyncio, sys, service
asyncio.run(service.Tiffin().start())
assert len(service.server.registry) == 4
print(sorted({"torch", "transformers", "sklearn", "pandas", "pyarrow"} & set(sys.modules)))
"""


def test_serving_imports_no_training_library_where_there_is_one(store: Path) -> None:
    done = run_python(store, "-c", STARTED)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "[]"


def memory_of(address: str) -> int:
    """Return the resident bytes of the processes that serve at the address."""
    port = address.rpartition(":")[2]
    parents = [p for p in psutil.process_iter(["cmdline"]) if {"serve", port} <= set(p.info["cmdline"] or [])]
    assert len(parents) == 1
    family = [*parents, *parents[0].children(recursive=True)]
    return sum(process.memory_info().rss for process in family)


def test_it_serves_its_own_version_of_a_model_when_the_store_has_a_newer_one(
    store: Path, bento: Path, tmp_path: Path
) -> None:
    home = tmp_path / "home"
    shutil.copytree(store, home, symlinks=True)
    packed = newest(home, "breast_cancer").name
    assert train(home, "breast_cancer", "--force").returncode == 0
    assert newest(home, "breast_cancer").name != packed
    with serving(home, {"TIFFIN_MODELS": "breast_cancer"}, bento="tiffin:latest", cwd=tmp_path) as address:
        assert httpx.get(f"{address}/breast_cancer/info").json()["version"] == f"breast_cancer:{packed}"


def test_bentoml_is_used_by_its_public_names_only() -> None:
    sources = [ROOT / "service.py", *(ROOT / "serving").rglob("*.py"), *(ROOT / "training").glob("*.py")]
    for source in sources:
        assert not re.search(
            r"^\s*(from|import) +(_bentoml|bentoml\._)", source.read_text(encoding="utf-8"), re.MULTILINE
        ), source
    assert bentoml.__version__ == "1.4.39"

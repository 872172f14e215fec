"""The script that makes environments: it repairs interrupted ones, and says in a line what went wrong."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import ROOT

SCRIPT = ROOT / "requirements" / "install.sh"
# No index: packages are installed already, or not to be found.
OFFLINE = ("--no-index", "--no-deps")


def install(folder: Path, *arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    """Run the script in a folder of its own."""
    cleaned = {name: value for name, value in os.environ.items() if not name.startswith(("PIP_", "UV_"))}
    return subprocess.run(
        [str(SCRIPT), "env", *arguments],
        cwd=folder,
        env={**cleaned, "PYTHON": sys.executable, "PIP_CONFIG_FILE": os.devnull, "PIP_RETRIES": "1", **env},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with an environment."""
    folder = tmp_path_factory.mktemp("made")
    done = install(folder, *OFFLINE, "pip")
    assert done.returncode == 0, done.stderr
    return folder


def test_an_interrupted_environment_is_made_anew(tmp_path: Path) -> None:
    programs = tmp_path / "env" / "bin"
    programs.mkdir(parents=True)
    (programs / "python").symlink_to(sys.executable)
    (tmp_path / "env" / "pyvenv.cfg").write_text(f"home = {Path(sys.executable).parent}\n")
    done = install(tmp_path, *OFFLINE, "pip")
    assert done.returncode == 0, done.stderr
    subprocess.run([programs / "python", "-m", "pip", "--version"], check=True, timeout=60)


@pytest.mark.parametrize(
    ("python", "said"),
    [
        ("/bin/ls", "/bin/ls is no Python that runs here"),
        ("no-such-python", "no-such-python is no Python that runs here"),
    ],
)
def test_what_is_no_python_is_told(tmp_path: Path, python: str, said: str) -> None:
    done = install(tmp_path, PYTHON=python)
    assert done.returncode == 2
    assert done.stderr == f"{said}: install Python 3.11 or newer, or set PYTHON\n"


def test_an_old_python_is_told(tmp_path: Path) -> None:
    old = tmp_path / "python3.10"
    old.write_text("#!/bin/sh\necho 3.10 False\n")
    old.chmod(0o755)
    done = install(tmp_path, PYTHON=str(old))
    assert done.returncode == 2
    assert done.stderr == f"Tiffin needs Python 3.11 or newer, {old} is 3.10: set PYTHON\n"


def test_an_index_out_of_reach_is_told_in_a_line(made: Path) -> None:
    done = install(made, "--index-url", "http://127.0.0.1:9/simple", "tiffin-of-nowhere")
    assert done.returncode == 2
    assert done.stderr.startswith("a package index is out of reach: check the network")
    assert len(done.stderr.splitlines()) == 1


def test_a_package_with_another_hash_is_told_in_a_line(made: Path, tmp_path: Path) -> None:
    (tmp_path / "tiffin_of_nowhere-1-py3-none-any.whl").write_bytes(b"no wheel")
    lock = tmp_path / "lock.txt"
    lock.write_text(f"tiffin-of-nowhere==1 --hash=sha256:{'0' * 64}\n")
    done = install(made, *OFFLINE, "--find-links", str(tmp_path), "--require-hashes", "-r", str(lock))
    assert done.returncode == 2
    assert "is not the one that requirements/serving.lock names" in done.stderr
    assert len(done.stderr.splitlines()) == 1

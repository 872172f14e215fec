"""The virtual environment of each peer, below .cache/peers."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from loadtest.processes import ROOT

PEERS = Path(__file__).parent / "peers"
FOLDER = ROOT / ".cache" / "peers"
# The packages whose versions tell what a peer is.
NAMED = {
    *("fastapi", "fastapi-cache2", "litserve", "bentoml", "mlserver", "uvicorn"),
    *("torch", "transformers", "onnxruntime", "pandas", "scikit-learn", "statsmodels"),
}


def pins(peer: str) -> dict[str, str]:
    """Versions of all that a peer needs, by name."""
    lines = (PEERS / f"{peer}.txt").read_text(encoding="utf-8").splitlines()
    return dict(line.split("==", 1) for line in lines if line and not line.startswith("#"))


def versions(peer: str) -> dict[str, str]:
    """Versions of what a peer is made of."""
    return {name: version for name, version in pins(peer).items() if name in NAMED}


def python(peer: str) -> Path:
    """The interpreter of a peer's environment, which is built now when it is not what the peer's file asks for.

    Raises RuntimeError with pip's last lines when it cannot be built.
    """
    requirements = PEERS / f"{peer}.txt"
    content = requirements.read_bytes() + sys.version.encode()
    wanted = hashlib.sha256(content).hexdigest()
    folder = FOLDER / peer
    built = folder / "built"
    interpreter = folder / "bin" / "python"
    if not built.is_file() or built.read_text(encoding="utf-8") != wanted:
        print(f"building the virtual environment of {peer}", file=sys.stderr, flush=True)
        shutil.rmtree(folder, ignore_errors=True)
        install = [str(interpreter), "-m", "pip", "install", "--quiet"]
        run([sys.executable, "-m", "venv", str(folder)], peer)
        # torch comes first: what needs it would else bring a newer one.
        torch = re.findall(r"^torch==.*$", requirements.read_text(encoding="utf-8"), re.MULTILINE)
        if torch:
            run([*install, *torch], peer)
        run([*install, "-r", str(requirements)], peer)
        built.write_text(wanted, encoding="utf-8")
    return interpreter


def run(command: list[str], peer: str, env: Mapping[str, str] | None = None) -> None:
    """Run a step that a peer's environment needs, in the folder of the peers."""
    done = subprocess.run(command, capture_output=True, text=True, cwd=PEERS, env={**os.environ, **(env or {})})
    if done.returncode:
        last = (done.stdout + done.stderr)[-3000:]
        raise RuntimeError(f"the environment of {peer} could not be prepared, {' '.join(command)} said:\n{last}")

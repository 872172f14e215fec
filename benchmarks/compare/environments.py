"""The virtual environment of each peer, in the user's cache: built once for all checkouts that need the same one.

The packages that all peers with torch share lie in an environment of their own, which the peers see through a .pth
file, since torch takes longer to install than everything else. Every peer still has exactly the versions that its file
pins.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Mapping
from pathlib import Path

from filelock import FileLock

PEERS = Path(__file__).parent / "peers"
FOLDER = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tiffin" / "peers"
# The packages whose versions characterise a peer.
NAMED = {
    *("fastapi", "fastapi-cache2", "litserve", "bentoml", "mlserver", "uvicorn"),
    *("torch", "transformers", "onnxruntime", "pandas", "scikit-learn", "statsmodels"),
}

TORCH_CPU = "https://download.pytorch.org/whl/cpu"

Pins = dict[str, str]


def pins(peer: str) -> Pins:
    """Return the versions of all packages that a peer needs, by name."""
    lines = (PEERS / f"{peer}.txt").read_text(encoding="utf-8").splitlines()
    return dict(line.split("==", 1) for line in lines if line and not line.startswith("#"))


def versions(peer: str) -> Pins:
    """Return the versions of the packages that characterise a peer, by name."""
    return {name: version for name, version in pins(peer).items() if name in NAMED}


def shared_pins() -> Pins:
    """Return the versions that all peers with torch have in common, by name."""
    needing_torch = [found for path in PEERS.glob("*.txt") if "torch" in (found := pins(path.stem))]
    return dict(set.intersection(*(set(found.items()) for found in needing_torch)))


@functools.cache
def python(peer: str) -> Path:
    """Return the interpreter of a peer's environment, building the environment unless it exists.

    Raises RuntimeError with pip's last lines when it cannot be built.
    """
    needed = pins(peer)
    if "torch" not in needed:
        return interpreter(environment(peer, needed))
    shared = shared_pins()
    base = environment("torch", shared, whole=False)
    return interpreter(environment(peer, dict(needed.items() - shared.items()), base))


def interpreter(folder: Path) -> Path:
    """Return the Python interpreter of a virtual environment."""
    return Path(sysconfig.get_path("scripts", "venv", {"base": str(folder)})) / "python"


def packages(folder: Path) -> Path:
    """Return the folder that holds a virtual environment's packages."""
    return Path(sysconfig.get_path("purelib", "venv", {"base": str(folder)}))


def environment(name: str, wanted: Pins, base: Path | None = None, *, whole: bool = True) -> Path:
    """Return the folder of an environment with these packages and those of the environment `base`; build it if needed.

    Raises RuntimeError when it cannot be built or, if it is to be `whole`, when a package lacks what it needs.
    """
    content = json.dumps([sorted(wanted.items()), str(base), sys.version])
    folder = FOLDER / f"{name}-{hashlib.sha256(content.encode()).hexdigest()[:12]}"
    built = folder / "built"
    FOLDER.mkdir(parents=True, exist_ok=True)
    # Two checkouts may need the same one.
    with FileLock(folder.with_suffix(".lock")):
        if not built.is_file():
            print(f"building the virtual environment of {name}", file=sys.stderr, flush=True)
            shutil.rmtree(folder, ignore_errors=True)
            pip = install(name, folder, wanted, base)
            if whole:
                run([*pip, "check"], name)
            built.touch()
    return folder


def install(name: str, folder: Path, wanted: Pins, base: Path | None) -> list[str]:
    """Build an environment and return the pip command for it."""
    # An environment with a base needs no pip of its own, which would also bring setuptools in place of the base's.
    run([sys.executable, "-m", "venv", *([] if base is None else ["--without-pip"]), str(folder)], name)
    pip = [str(interpreter(base or folder)), "-m", "pip", "--python", str(interpreter(folder))]
    if base is not None:
        (packages(folder) / "shared.pth").write_text(f"{packages(base)}\n", encoding="utf-8")
    requirements = folder / "requirements.txt"
    requirements.write_text("".join(f"{package}=={version}\n" for package, version in wanted.items()), encoding="utf-8")
    if "torch" in wanted:
        # First the build for CPUs, as in the Makefile, then the packages that this build needs.
        torch = [*pip, "install", "--quiet", f"torch=={wanted['torch']}"]
        run([*torch, "--no-deps", "--retries", "1", "--extra-index-url", TORCH_CPU], name)
        run(torch, name)
    # The file lists everything that these packages need.
    run([*pip, "install", "--quiet", "--no-deps", "-r", str(requirements)], name)
    return pip


def run(command: list[str], peer: str, env: Mapping[str, str] | None = None) -> None:
    """Run a step that prepares a peer's environment, in the folder of the peers; raise RuntimeError if it fails."""
    done = subprocess.run(command, capture_output=True, text=True, cwd=PEERS, env={**os.environ, **(env or {})})
    if done.returncode:
        last = (done.stdout + done.stderr)[-3000:]
        raise RuntimeError(f"the environment of {peer} could not be prepared, {' '.join(command)} said:\n{last}")

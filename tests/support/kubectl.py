"""A stand-in for `kubectl` that records its arguments, renders manifests and forwards ports to a real server.

`install` puts it into a folder as a program, which the environment configures.
"""

from __future__ import annotations

import os
import select
import shlex
import socket
import sys
from pathlib import Path

RENDERED = """\
kind: Deployment
spec:
  template:
    spec:
      containers:
      - image: tiffin:latest
        name: tiffin
"""


def install(
    folder: Path, *, kustomize: str = "", port: str = "1", stuck: str = "none", refuse: bool = False
) -> dict[str, str]:
    """Install a `kubectl` in a folder; return an environment with the folder first in PATH.

    It records its arguments in the file `asked` and applied manifests in `applied`. `kustomize` is a real kubectl that
    renders, `port` the port of the server on this machine, `stuck` part of the name of a Deployment whose rollout
    fails; with `refuse`, `apply` fails.
    """
    program = folder / "kubectl"
    program.write_text(f'#!/bin/sh\nexec {shlex.join([sys.executable, __file__])} "$@"\n', encoding="utf-8")
    program.chmod(0o755)
    told = {"FOLDER": str(folder), "KUSTOMIZE": kustomize, "SERVER": port, "STUCK": stuck, "REFUSE": "1" * refuse}
    path = f"{folder}{os.pathsep}{os.environ['PATH']}"
    return {**os.environ, "PATH": path, **{f"KUBECTL_{name}": value for name, value in told.items()}}


def render(folder: str) -> str:
    """Return a Deployment with the image that the kustomization in `folder` sets, if any."""
    lines = (Path(folder) / "kustomization.yaml").read_text(encoding="utf-8").splitlines()
    new = {key.strip(" -"): value.strip(' "') for key, _, value in (line.partition(":") for line in lines)}
    return RENDERED.replace("tiffin:latest", f"{new['newName']}:{new['newTag']}") if "newName" in new else RENDERED


def forward(port: int, server: int) -> None:
    """Forward connections on `port` to the port `server` of this machine until killed."""
    listener = socket.create_server(("127.0.0.1", port))
    pairs: dict[socket.socket, socket.socket] = {}
    while True:
        for ready in select.select([listener, *pairs], [], [])[0]:
            if ready is listener:
                client = listener.accept()[0]
                other = socket.create_connection(("127.0.0.1", server))
                pairs |= {client: other, other: client}
            elif ready in pairs:
                if data := ready.recv(65536):
                    pairs[ready].sendall(data)
                else:
                    other = pairs.pop(ready)
                    pairs.pop(other).close()
                    other.close()


def main(arguments: list[str]) -> str:
    """Run a command and return its output; exit with a status where kubectl would fail."""
    folder = Path(os.environ["KUBECTL_FOLDER"])
    with (folder / "asked").open("a", encoding="utf-8") as asked:
        print(*arguments, file=asked)
    if arguments[0] == "--namespace":
        arguments = arguments[2:]
    match arguments:
        case ["kustomize", overlay]:
            if real := os.environ["KUBECTL_KUSTOMIZE"]:
                os.execv(real, [real, "kustomize", overlay])
            return render(overlay)
        case ["apply", "--filename", "-"]:
            (folder / "applied").write_text(sys.stdin.read(), encoding="utf-8")
            # As with kubectl, what is valid was applied even when the rest is refused.
            sys.exit(bool(os.environ["KUBECTL_REFUSE"]))
        case ["get", "deployments", *_, "name"]:
            return "deployment.apps/tiffin-a\ndeployment.apps/tiffin-b\n"
        case ["get", "deployments", *_]:
            return f"tiffin-a {4 if (folder / 'applied').exists() else 3}\ntiffin-b 7\n"
        case ["get", "services", *_]:
            return "tiffin-a 8000\ntiffin-a-headless \n"
        case ["rollout", "status", deployment, *_]:
            sys.exit(os.environ["KUBECTL_STUCK"] in deployment and not (folder / "undone").exists())
        case ["rollout", "undo", *_]:
            (folder / "undone").touch()
            return ""
        case ["port-forward", "service/tiffin-a", ports] if ports.endswith(":8000"):
            forward(int(ports.partition(":")[0]), int(os.environ["KUBECTL_SERVER"]))
    sys.exit(f"unexpected: {arguments}")


if __name__ == "__main__":
    sys.stdout.write(main(sys.argv[1:]))

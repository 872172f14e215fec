"""Every route works without what only Linux has, as on macOS and Windows, in a Python process of its own.

Libraries are imported before that is removed, since they support each system themselves; our code after.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import models
from tests.support import ROOT
from tests.support.processes import run_python

# All that our code imports, inside functions too.
LIBRARIES = """
    sys.modules["uvloop"] = None
    import asyncio.subprocess, ctypes, sqlite3, tempfile, uuid
    import _bentoml_impl.server.app, bentoml._internal.service.loader, duckdb, filelock, google.protobuf.message_factory
    import httpx, limits, numpy, onnxruntime, opentelemetry.trace, opentelemetry.trace.propagation.tracecontext
    import PIL.Image, prometheus_client.multiprocess, psutil, pydantic_settings, pythonjsonlogger.json
    import redis.asyncio.sentinel, rich.progress, starlette.applications, tokenizers
    import uvicorn.protocols.http.httptools_impl, yaml
"""
TAKE_AWAY = """
    for name in (
        "sched_getaffinity", "sched_setaffinity", "process_cpu_count", "setpriority", "getpriority", "nice", "killpg",
        "setsid", "getpgid", "fork", "mkfifo", "getloadavg", "sysconf",
    ):
        if hasattr(os, name):
            delattr(os, name)
    for name in ("SIGKILL", "SIGSTOP", "SIGCONT", "SIGHUP", "SIGUSR1", "pthread_kill", "setitimer", "alarm"):
        delattr(signal, name)
    for name in ("fcntl", "resource"):
        sys.modules[name] = None
    for module in (io, builtins):
        def open_elsewhere(file, *arguments, known=module.open, **options):
            if str(file).startswith(("/proc", "/sys")):
                raise FileNotFoundError(2, "there is no such file on this system", str(file))
            return known(file, *arguments, **options)
        module.open = open_elsewhere
    sys.platform = sys.argv[1]
"""
IMPORT = """
    import models, serving
    for package in (models, serving):
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            importlib.import_module(module.name)
    for name in ("loadtest.processes", "loadtest.open_loop", "benchmarks.sizing", "training.__main__", "service"):
        importlib.import_module(name)
"""
ANSWER = """
    import loadtest.processes, service
    sys.path.append("k8s")
    import smoke

    async def answer():
        port = loadtest.processes.free_port()
        config = uvicorn.Config(service.Tiffin.to_asgi(), port=port, log_config=None, loop="none")
        server = uvicorn.Server(config)
        serving = asyncio.create_task(server.serve())
        while not server.started and not serving.done():
            await asyncio.sleep(0.05)
        failed = await asyncio.to_thread(smoke.main, f"http://127.0.0.1:{port}")
        server.should_exit = True
        await serving
        return failed

    sys.exit(asyncio.run(answer()))
"""
SCRIPT = "import asyncio, builtins, importlib, io, os, pkgutil, signal, sys\n" + "\n".join(
    re.sub("(?m)^    ", "", part) for part in (LIBRARIES, TAKE_AWAY, IMPORT, ANSWER)
)


@pytest.mark.parametrize("system", ["darwin", "win32"])
def test_a_server_starts_and_answers_without_what_only_linux_has(store: Path, tmp_path: Path, system: str) -> None:
    script = tmp_path / "script.py"
    script.write_text(f"import sys\nsys.path.insert(0, {str(ROOT)!r})\n{SCRIPT}", encoding="utf-8")
    done = run_python(store, str(script), system, env={"TIFFIN_GRPC_PORT": "0"})
    assert done.returncode == 0, done.stdout + done.stderr
    answered = [line for line in done.stdout.splitlines() if line.startswith("200 ")]
    assert {f"200 /{name}/predict" for name in models.names()} <= set(answered)

"""Say in one line what keeps a server from starting, and what to do about it, before BentoML says it in twenty.

`service.py` is imported by the process of `bentoml serve`, which checks everything, and again by each worker.
`python -m serving.bento.start [PORT]` checks what BentoML needs before it imports `service.py`: that the port is a
number and that its home can be written to.
"""

from __future__ import annotations

import atexit
import contextlib
import errno
import functools
import os
import shutil
import socket
import sys
import tempfile
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from serving.settings import Settings

# BentoML's defaults, which its configuration may change.
HOST, PORT = "0.0.0.0", 3000  # noqa: S104
CONFIGURATION = ("BENTOML_CONFIG", "BENTOML_CONFIG_OPTIONS")
# Commands whose own process imports the service first, and so reports faults on behalf of the workers.
BEGINNINGS = ("serve", "build")
# Folders that BentoML makes in its home at every start.
FOLDERS = ("bentos", "models", "envs", "tmp")
# Variables in which uvicorn finds the proxies to trust, prometheus_client its folder, and workers the folder to use.
FORWARDED, MULTIPROCESS, METRICS = "FORWARDED_ALLOW_IPS", "PROMETHEUS_MULTIPROC_DIR", "TIFFIN_METRICS_DIR"
# The least that the workers' metrics take.
PROBE_BYTES = 2**20
NO_ROOM = (errno.ENOSPC, errno.EDQUOT)


def set_environment() -> None:
    """Set what prometheus_client and uvicorn read from the environment; call this before they are imported.

    Workers take the folder of metrics that `share_metrics` names, or none where it names none. uvicorn would believe
    any address that a client on this machine claims.
    """
    if only_starts_workers():
        if os.environ.get(FORWARDED):
            print(f"{FORWARDED} has no effect: set TIFFIN_TRUSTED_PROXIES", file=sys.stderr)
    elif is_worker():
        if folder := os.environ[METRICS]:
            os.environ[MULTIPROCESS] = folder
        else:
            del os.environ[MULTIPROCESS]
    os.environ[FORWARDED] = ""


def only_starts_workers() -> bool:
    """Return whether this is the process of `bentoml serve`, which answers no request itself.

    Without what only workers need it starts them a third of a second earlier, and takes 20 MB less.
    """
    return bentoml_command()[0] == "serve"


def is_worker() -> bool:
    """Return whether the process of `bentoml serve` started this one, after it had checked everything."""
    return METRICS in os.environ and MULTIPROCESS in os.environ and not only_starts_workers()


def share_metrics(workers: int) -> None:
    """Make, in the process of `bentoml serve`, a folder of metrics where there are several workers to share it.

    The one in BentoML's home is emptied by the next server with the same home. A single worker has its metrics in
    memory.
    """
    if only_starts_workers():
        os.environ[METRICS] = metrics_folder() if workers > 1 else ""


@functools.cache
def metrics_folder() -> str:
    """Make a folder, in BentoML's home where that can be written to, that is removed when this process ends."""
    try:
        home().mkdir(parents=True, exist_ok=True)
        folder = tempfile.mkdtemp(prefix="metrics-", dir=home())
    except OSError:
        with store_faults():
            folder = tempfile.mkdtemp(prefix="tiffin-metrics-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def read_settings() -> Settings:
    """Return the settings from the environment; exit with a line for each that is not valid.

    In the process of `bentoml serve` or `bentoml build`, write a line to standard error when old names are in use.
    """
    from pydantic import ValidationError

    from serving.setting_faults import faults
    from serving.settings import Settings
    from serving.variables import renamed, unknown

    if lines := unknown(Settings.model_fields):
        end(*lines)
    try:
        settings = Settings()
    except ValidationError as error:
        end(*faults(error))
    line = renamed(Settings.model_fields)
    if line and bentoml_command()[0] in BEGINNINGS:  # workers would repeat it
        print(line, file=sys.stderr)
    return settings


def prepare(models: Collection[str]) -> None:
    """Put the shipped models among `models`, by name or `name:version`, into the store where it lacks them.

    In the process of `bentoml serve` or `bentoml build`, exit with a line that says what to do when that command could
    not do its work.
    """
    if is_worker():
        return
    from serving.bento.shipped import put_into_store

    command, options = bentoml_command()
    begins = command in BEGINNINGS
    if command == "serve" and port_is_known(options):
        check_port(options.get("host") or HOST, PORT if options.get("port") is None else options["port"])
    if begins:
        check_home()
    with store_faults():
        put_into_store(dict.fromkeys(entry.partition(":")[0] for entry in models))
    if begins:
        check_models(models)
        check_examples(dict.fromkeys(entry.partition(":")[0] for entry in models))


def link_packed_models() -> None:
    """Put links to the models of the Bento in an image into BentoML's home, where `bentoml serve` needs none.

    Call this before BentoML is imported. The image says where its Bento is in BENTO_PATH.
    """
    packed = Path(os.environ.get("BENTO_PATH", "/nonexistent")) / "models"
    if not packed.is_dir():
        return
    with store_faults():
        (home() / "models").mkdir(parents=True, exist_ok=True)
        for folder in packed.iterdir():
            link = home() / "models" / folder.name
            if not link.exists():
                link.symlink_to(folder, target_is_directory=True)


def bentoml_command() -> tuple[str | None, dict[str, Any]]:
    """Return the name and options of the BentoML command that imports the service; no name where there is none."""
    import click

    context = click.get_current_context(silent=True)
    return (None, {}) if context is None else (context.command.name, context.params)


def port_is_known(options: dict[str, Any]) -> bool:
    """Return whether the command line, or else BentoML's defaults, say where to listen."""
    given = options.get("host") is not None and options.get("port") is not None
    return given or not any(os.environ.get(name) for name in CONFIGURATION)


def check_port(host: str, port: int, changed_by: str = "PORT (make serve) or --port (bentoml serve)") -> None:
    """Exit with a line when no server can listen on this host and port, which is changed by what the line names."""
    if not 0 <= port < 2**16:
        end(f"port {port} does not exist: choose one from 1 to {2**16 - 1}")
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        if os.name == "posix":
            # As the server does: closed connections in TIME_WAIT do not hold the port. On Windows the option would
            # allow two servers on one port.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                end(f"port {port} is taken: choose another one by {changed_by}")
            if error.errno == errno.EACCES:
                end(f"port {port} is for administrators: choose one from 1024 on by {changed_by}")
            if error.errno == errno.EADDRNOTAVAIL:
                end(f"this machine has no address {host}: choose another one by --host")
            # Any other fault, such as a name in place of an address, BentoML itself reports in one line.


def check_home() -> None:
    """Exit with a line when BentoML's home cannot be made or its disk is full.

    An existing home that cannot be written to will do: a server only reads its models.
    """
    if os.environ.get("BENTOML_HOME") == "":  # BentoML takes it for the current folder
        end("BENTOML_HOME is empty: unset it, or set it to a folder of yours")
    with store_faults():
        for folder in FOLDERS:
            (home() / folder).mkdir(parents=True, exist_ok=True)
        try:
            with tempfile.TemporaryFile(dir=home()) as probe:
                probe.write(bytes(PROBE_BYTES))
                probe.flush()
        except OSError as error:
            if error.errno in NO_ROOM:
                raise


@contextlib.contextmanager
def store_faults() -> Iterator[None]:
    """Exit with a line when the code inside cannot write to BentoML's home."""
    try:
        yield
    except OSError as error:
        end(store_fault(error))


def store_fault(error: OSError) -> str:
    """Return a line on what to do about an error in writing to BentoML's home."""
    # Copying a folder raises one error for all of its files, with their messages and no number.
    if error.errno in NO_ROOM or os.strerror(errno.ENOSPC) in str(error):
        disks = f"{home()}, or of temporary files in {tempfile.gettempdir()}"
        return f"no room on the disk of {disks}: free some, or set BENTOML_HOME to a folder on another disk"
    if type(error).__module__.startswith("filelock"):
        return f"another process puts models into {home()} for long: end it, or remove tiffin.lock there, and try again"
    reason = error.strerror or error
    return f"cannot write to BentoML's home {home()} ({reason}): set BENTOML_HOME to a folder of yours"


def check_models(models: Collection[str]) -> None:
    """Exit with a line for each model, by name or `name:version`, that the store lacks or cannot read."""
    import bentoml
    from bentoml.exceptions import NotFound

    missing = []
    for entry in models:
        name, _, version = entry.partition(":")
        try:
            bentoml.models.get(entry)
        except NotFound:
            make = f"the model store in {home()} has no {name}: make it with python -m training {name}"
            missing.append(version_fault(name, entry) if version else make)
        except Exception as error:  # for a damaged entry BentoML raises errors of many classes
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            missing.append(f"an entry in {home() / 'models' / name} cannot be read ({reason}): remove it")
    if missing:
        end(*missing)


def check_examples(names: Collection[str]) -> None:
    """Exit with a line for each model that cannot make an item of its own example, with which the server warms up."""
    import models

    lines = []
    for name in names:
        try:
            models.find(name).example_items()
        except Exception as error:
            lines.append(f"the model {name} cannot use its own example: {type(error).__name__}: {error}")
    if lines:
        end(*lines)


def version_fault(name: str, entry: str) -> str:
    """Return a line on a version of a model, `name:version`, that the store lacks."""
    import bentoml
    from bentoml.exceptions import NotFound

    from serving.variables import new_name, variable

    setting = variable("models") or new_name("models")
    try:
        stored = ", ".join(str(found.tag) for found in bentoml.models.list(name))
    except NotFound:
        stored = f"no {name} at all"
    told = f"the model store in {home()} has no {entry}; it has {stored}"
    return f"{setting}={os.environ.get(setting, entry)}: {told}"


def home() -> Path:
    """Return BentoML's home."""
    return Path(os.path.expandvars(os.environ.get("BENTOML_HOME") or "~/bentoml")).expanduser()


def end(*lines: str) -> NoReturn:
    """Exit with lines on standard error and status 1."""
    sys.exit("\n".join(lines))


def number_of_port(text: str) -> int:
    """Parse a port number; exit with a line when it is not valid."""
    if not text.isdecimal() or not 0 < int(text) < 2**16:
        end(f"PORT is {text!r}: choose a number from 1 to {2**16 - 1}")
    return int(text)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        number_of_port(sys.argv[1])
    check_home()

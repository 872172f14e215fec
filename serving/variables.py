"""The names of the environment variables that set the server, old and new; this module imports next to nothing."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Collection, Iterable

# What the server's processes tell each other.
INTERNAL = ("TIFFIN_METRICS_DIR", "TIFFIN_GRPC_HOST")
OF_KUBERNETES = re.compile(r"_SERVICE_(HOST|PORT(_.+)?)$|_PORT(_\d+_(TCP|UDP|SCTP)(_(ADDR|PORT|PROTO))?)?$")
PREFIX, DELIMITER = "TIFFIN_", "__"
# The setting that holds overrides for single models, and the settings that have no old name.
OVERRIDES = "model"
NEW = {
    "batch_share",
    "default_model",
    "execution_provider",
    "grpc_connection_seconds",
    "grpc_port",
    "grpc_tls_certificate",
    "grpc_tls_client_ca",
    "grpc_tls_key",
    "job_files",
    "job_lease_seconds",
    "job_max_bytes",
    "job_max_rows",
    "job_max_unfinished",
    "job_metrics_port",
    "job_retention_seconds",
    "job_store",
    "job_worker",
    "model_control",
    "niceness",
    OVERRIDES,
}
# Names that set other programs as well, such as those of OpenTelemetry: they do not count as old.
STANDARD = {"otel_exporter_otlp_endpoint", "root_path"}


def new_name(setting: str) -> str:
    """Return the new name of the variable that sets a setting."""
    return f"{PREFIX}{setting}".upper()


def variable(setting: str) -> str | None:
    """Return the variable that sets a setting, under its new name or else its old one; None when neither is set.

    A variable that is empty counts as unset. As with pydantic-settings, capitals do not matter.
    """
    known = {name.lower(): name for name, value in os.environ.items() if value}
    found = known.get(new_name(setting).lower())
    return found if found or setting in NEW else known.get(setting)


def variable_below(*path: str) -> str:
    """Return the variable that sets an override, given as a path such as `model`, `sentiment`, `max_batch`.

    When no variable has this name, return one whose name extends it, else one that it extends, else the name itself.
    """
    known = {name.upper(): name for name, value in os.environ.items() if value}
    whole, *parents = (new_name(DELIMITER.join(path[:depth])) for depth in range(len(path), 0, -1))
    longer = (name for name in known if name.startswith(f"{whole}{DELIMITER}"))
    return next((known[name] for name in (whole, *longer, *parents) if name in known), whole)


def unknown(settings: Collection[str]) -> list[str]:
    """Return a line for each variable with our prefix that sets nothing, with the setting that may be meant.

    Kubernetes itself sets some such variables, for each Service whose name begins with the prefix.
    """
    known = [new_name(setting) for setting in settings]
    lines = []
    for name, value in os.environ.items():
        plain = name.upper()
        other = not plain.startswith(PREFIX) or plain in INTERNAL or OF_KUBERNETES.search(plain)
        if value and not other and plain not in known and not plain.startswith(new_name(OVERRIDES) + DELIMITER):
            close = difflib.get_close_matches(plain.removeprefix(PREFIX).lower(), settings, 1)
            lines.append(f"{name}: no setting has this name" + (f", {new_name(close[0])} has" if close else ""))
    return lines


def renamed(settings: Iterable[str]) -> str:
    """Return a line that names the old variables in use and their new names; an empty one when none is."""
    found = {name: variable(name) for name in settings if name not in STANDARD}
    old = {name: used for name, used in found.items() if used and used.lower() == name}
    if not old:
        return ""
    what, use = ("old name", "is") if len(old) == 1 else ("old names", "are")
    return f"{', '.join(old.values())}: {what} of {', '.join(map(new_name, old))}, which {use} to be used instead"

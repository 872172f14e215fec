"""The names of the environment variables that set the server, old and new; this module imports next to nothing."""

from __future__ import annotations

import os
from collections.abc import Iterable

PREFIX, DELIMITER = "TIFFIN_", "__"
# The setting that holds overrides for single models, and the settings that have no old name.
OVERRIDES = "model"
NEW = {"batch_share", "execution_provider", OVERRIDES}
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


def renamed(settings: Iterable[str]) -> str:
    """Return a line that names the old variables in use and their new names; an empty one when none is."""
    found = {name: variable(name) for name in settings if name not in STANDARD}
    old = {name: used for name, used in found.items() if used and used.lower() == name}
    if not old:
        return ""
    what, use = ("old name", "is") if len(old) == 1 else ("old names", "are")
    return f"{', '.join(old.values())}: {what} of {', '.join(map(new_name, old))}, which {use} to be used instead"

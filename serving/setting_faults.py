"""Messages about settings that are not valid, a line for each."""

from __future__ import annotations

import os
from typing import Any

from pydantic import ValidationError

from serving.setting_types import ModelSettings
from serving.settings import Settings
from serving.variables import DELIMITER, OVERRIDES, new_name, variable, variable_below

# Settings that hold passwords, or may.
SECRET = {"api_keys", "job_store", "otel_exporter_otlp_endpoint", "redis_url"}
SHOWN_CHARACTERS = 80


def faults(error: ValidationError) -> list[str]:
    """Return a line for each setting that is not valid: variable, value unless it is secret, what is allowed."""
    lines: dict[str, str] = {}
    for problem in error.errors(include_url=False):
        if problem["type"] == "default_factory_not_called":  # its default depends on another setting that is not valid
            continue
        path = [str(part) for part in problem["loc"]]
        told = problem["msg"].removeprefix("Value error, ")
        if path[0] == OVERRIDES:
            name = variable_below(*(part for part in path if part != "[key]"))
            value, told = os.environ.get(name, problem["input"]), override_fault(path, problem["type"], told)
        else:
            name = variable(path[0]) or variable_below(path[0])
            value, told = problem["input"], allowed(path[0]) or told
        # A variable may have several faults; report the first one only.
        lines.setdefault(name, f"{name}{'' if path[0] in SECRET else f'={shown(value)}'}: {told}")
    return list(lines.values())


def override_fault(path: list[str], kind: str, told: str) -> str:
    """Return what is wrong with a variable that sets something for one model."""
    if len(path) == 1:
        example = new_name(DELIMITER.join((OVERRIDES, "<name>", "max_batch")))
        return f"must name a model and its setting, as {example} does; {new_name('models')} says which models to serve"
    if kind in ("extra_forbidden", "model_type"):
        names = ", ".join(name.upper() for name in ModelSettings.model_fields)
        return f"no setting of a model; after its name and {DELIMITER} come {names}"
    return allowed(path[-1]) or told


def shown(value: Any) -> str:
    """Return a value as text that fits on a line."""
    text = str(value)
    text = text if text.isprintable() else repr(text)
    return text if len(text) <= SHOWN_CHARACTERS else f"{text[:SHOWN_CHARACTERS]}..."


def allowed(name: str) -> str | None:
    """Return what values a number or a switch may have; None for other settings, whose validators say it."""
    field = Settings.model_fields.get(name)
    if field is None:
        return None
    if field.annotation is bool:
        return "must be true or false"
    if field.annotation is float:
        kind = "a number"
    elif field.annotation in (int, int | None):
        kind = "a whole number"
    else:
        return None
    words = {"ge": "from {} on", "gt": "greater than {}", "le": "up to {}"}
    bounds = [
        text.format(getattr(bound, key))
        for bound in field.metadata
        for key, text in words.items()
        if hasattr(bound, key)
    ]
    return f"must be {kind} {', '.join(bounds)}"

"""Parsing of the values that settings may have; each function raises ValueError that says what is allowed."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable

import models
from serving.http.addresses import is_origin, is_path

# A version as BentoML's tags have it.
VERSION = re.compile(r"(?=.{1,63}$)[a-z0-9]([-._a-z0-9]*[a-z0-9])?")


def split(value: object) -> object:
    """Split a text such as 'a, b' into a list; return anything else as it is."""
    return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value


def known_model(name: str) -> str:
    """Return the model that a variable names, whatever its capitals."""
    known = {model.lower(): model for model in models.names()}
    return models.check(known.get(name.lower(), name))


def model_name(entry: str) -> str:
    """Return the name in `name` or `name:version`."""
    return entry.partition(":")[0]


def model_entries(entries: object) -> object:
    """Return a list of models, each as `name` or `name:version`; anything else as it is."""
    if not entries:
        raise ValueError(f"names no model; models/ has {', '.join(models.names())}")
    return list(dict.fromkeys(map(model_entry, entries))) if isinstance(entries, list) else entries


def model_entry(text: str) -> str:
    """Return a model as `name`, which is its newest version, or as `name:version`."""
    name, colon, version = text.partition(":")
    models.check(name)
    if not colon or version == "latest":
        return name
    if not VERSION.fullmatch(version):
        raise ValueError(
            f"{text!r} has no version after its colon: up to 63 small letters and digits and, between them, . _ -"
        )
    return text


def only_model(entries: Iterable[str]) -> str | None:
    """Return the name of the model of which all entries are; None where they are of several, or there is none."""
    names = set(map(model_name, entries))
    return names.pop() if len(names) == 1 else None


def served_model(name: str, entries: Iterable[str]) -> str:
    """Return the name of a model, whatever its capitals; refuse one that is not among the entries, if there are any."""
    names = list(dict.fromkeys(map(model_name, entries)))
    found = known_model(name)
    if names and found not in names:
        raise ValueError(f"{found} is not served, only {', '.join(names)}")
    return found


# How paths begin that are not those of models.
OWN_PATHS = {
    *("docs", "docs.json", "health", "healthz", "livez", "metrics", "readyz", "schema.json", "static"),
    *("static_content", "v2", "bulk-predict", "explain", "info", "predict", "preview", "uploadfile"),
}


def prefix(path: str, names: Collection[str]) -> str:
    """Return the path prefix of a proxy; refuse one that begins as other paths do, or with a model among `names`."""
    if path and not is_path(path):
        raise ValueError("must be a path such as /project, with a slash at its beginning and none at its end")
    first = path[1:].partition("/")[0]
    if first in names:
        raise ValueError(f"must not begin with the name of a model: /{first}/predict would be with and without it")
    if first in OWN_PATHS:
        raise ValueError(f"must not begin with /{first}, which is a path of the server's own")
    return path


def checked_origins(origins: object) -> object:
    """Return a list of * and of origins as browsers send them; anything else as it is."""
    if isinstance(origins, list) and not all(origin == "*" or is_origin(origin) for origin in origins):
        raise ValueError("must be * or origins such as https://app.example:8443, without a path or slash at the end")
    return origins

"""The models that Tiffin serves, one file each; every other part of the project finds them here."""

from importlib import import_module
from pkgutil import iter_modules
from typing import Any

from models.model import Model

__all__ = ["Model", "check", "find", "names"]


def names() -> list[str]:
    """Names of all models: the modules of this package that define one, in alphabetical order."""
    return sorted(module.name for module in iter_modules(__path__) if module.name != "model")


def check(name: str) -> str:
    """`name` if there is such a model; ValueError that lists the known names otherwise."""
    if name not in names():
        raise ValueError(f"no model {name!r}; models/ has {', '.join(names())}")
    return name


def find(name: str) -> type[Model[Any]]:
    """Return the class of the model `name`; raise ValueError when there is none."""
    check(name)
    defined = [
        value
        for value in vars(import_module(f"models.{name}")).values()
        if isinstance(value, type) and issubclass(value, Model) and value.__module__ == f"models.{name}"
    ]
    if len(defined) != 1:
        raise TypeError(f"models/{name}.py must define exactly one subclass of Model, it defines {len(defined)}")
    return defined[0]

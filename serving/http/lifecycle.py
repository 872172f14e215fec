"""The state of a worker from its start to its end."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class Lifecycle:
    """Whether all models are loaded, and whether the worker is about to end."""

    loaded: bool = False
    draining: bool = False

    @property
    def ready(self) -> bool:
        """Whether the worker should get requests."""
        return self.loaded and not self.draining

"""Settings of which an empty variable says something, though elsewhere it counts as unset."""

from __future__ import annotations

import os
from typing import Any

from pydantic.fields import FieldInfo
from pydantic_settings import PydanticBaseSettingsSource

from serving.variables import new_name

# What an empty variable sets, by the name of its setting.
EMPTY = {"grpc_port": 0}


class EmptyValues(PydanticBaseSettingsSource):
    """The source that reads the settings whose variables are empty."""

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        """Return what an empty variable sets; None where it is not empty."""
        empty = field_name in EMPTY and os.environ.get(new_name(field_name)) == ""
        return (EMPTY[field_name] if empty else None), field_name, False

    def __call__(self) -> dict[str, Any]:
        """Return all of these settings."""
        found = {name: self.get_field_value(field, name)[0] for name, field in self.settings_cls.model_fields.items()}
        return {name: value for name, value in found.items() if value is not None}

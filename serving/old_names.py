"""The settings under the names that they had before they got a prefix."""

from __future__ import annotations

from typing import Any

from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, EnvSettingsSource

from serving.variables import NEW


class OldNames(EnvSettingsSource):
    """The source that reads settings under their old names."""

    def __init__(self, settings_class: type[BaseSettings]) -> None:
        super().__init__(settings_class, env_prefix="", env_nested_delimiter="")

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        """Return a setting's value under its old name; None where it has none."""
        if field_name in NEW:
            return None, field_name, False
        return super().get_field_value(field, field_name)

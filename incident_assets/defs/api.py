"""The API resource: where a run finds the API, read when the run needs it.

The key is not part of it, so that it can appear in no configuration; each run looks it up.
"""

from dataclasses import replace
from typing import Any

import dagster as dg

from incident_assets.settings import Settings, read_settings


class ApiResource(dg.ConfigurableResource[Any]):
    """The incident API. `base_url` is for tests; unset, INCIDENT_API_BASE_URL counts."""

    base_url: str | None = None

    def read_settings(self) -> Settings:
        """Return the settings of this moment. Raises SettingError naming a wrong variable."""
        settings = read_settings()
        return replace(settings, base_url=self.base_url) if self.base_url else settings

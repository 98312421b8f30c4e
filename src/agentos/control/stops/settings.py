"""Who may stop everything."""

from __future__ import annotations

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from agentos.kernel.settings import Section


class StopSettings(Section):
    """Who may stop everything."""

    model_config = SettingsConfigDict(env_prefix="AGENTOS_STOP_", frozen=True, extra="ignore", populate_by_name=True)

    platform: str = Field(
        "main",  # the organization that 'agentos up' founds
        description="The platform's own organization: only out of it can every organization be stopped.",
    )

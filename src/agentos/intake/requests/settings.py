"""Limits of requests."""

from __future__ import annotations

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from agentos.kernel.settings import Section


class RequestSettings(Section):
    """What one caller may ask of a process of the API."""

    model_config = SettingsConfigDict(env_prefix="AGENTOS_REQUEST_", frozen=True, extra="ignore", populate_by_name=True)

    rate_per_minute: int = Field(
        6000, ge=1, le=10_000_000, description="Requests of one key in a minute, in each process of the API."
    )

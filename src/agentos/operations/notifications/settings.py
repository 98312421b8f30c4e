"""Settings of messages to people."""

from __future__ import annotations

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from agentos.kernel.settings import Section


class NotificationSettings(Section):
    """What messages to people say of the platform."""

    model_config = SettingsConfigDict(env_prefix="AGENTOS_NOTIFY_", frozen=True, extra="ignore", populate_by_name=True)

    address: str = Field(
        "http://127.0.0.1:8000",
        pattern=r"^https?://[^\s]+$",
        description="Where people reach the platform: what links in messages begin with.",
    )

"""Settings of the gateway."""

from __future__ import annotations

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from agentos.kernel.settings import Section


class GatewaySettings(Section):
    """How long clients of the gateway wait, and what holds where they do not say."""

    model_config = SettingsConfigDict(env_prefix="AGENTOS_GATEWAY_", frozen=True, extra="ignore", populate_by_name=True)

    # The official clients give up after 600 s and then ask again, which would start an agent's run a second time.
    seconds: float = Field(
        540.0, gt=0, le=3600, description="How long a client of /v1 waits for a model, or for an agent's run, at most."
    )
    max_tokens: int = Field(
        4096, ge=1, le=1_000_000, description="Most tokens of an answer where a client of /v1 does not say."
    )
    first_word_seconds: float = Field(
        10.0,
        gt=0,
        le=600,
        description="How long a stream waits for the first word before it begins; an error until then has its status.",
    )
    alive_seconds: float = Field(
        15.0, gt=0, le=600, description="How often a stream in which nothing happens says that it is alive."
    )

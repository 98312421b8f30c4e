"""Settings of the adapters for models."""

from __future__ import annotations

from pydantic import Field, SecretStr
from pydantic_settings import SettingsConfigDict

from agentos.kernel.settings import Section


class ReachSettings(Section):
    """How long and how much is waited for and read of models that answer over HTTP."""

    connect_seconds: float = Field(
        5.0,  # three SYN retransmissions (1 s, 2 s) fit; a host that took longer is better asked again
        gt=0,
        description="How long a connection to the models may take, TLS included.",
    )
    silence_seconds: float = Field(
        60.0,  # half of the default call timeout (120 s): a dead connection leaves time for a second attempt
        gt=0,
        description="How long an answer's stream may be silent before it is given up; pings count as life.",
    )
    answer_bytes: int = Field(
        16 * 1024 * 1024,  # the longest answers (128k tokens) are ~0.5 MB of text and ~20× that as one-token events
        ge=1024,
        description="Largest answer that is read, in bytes of its stream.",
    )


class ClaudeSettings(ReachSettings):
    """How to reach models over the Anthropic Messages wire format."""

    model_config = SettingsConfigDict(env_prefix="AGENTOS_CLAUDE_", frozen=True, extra="ignore", populate_by_name=True)

    api_key: SecretStr = Field(
        SecretStr(""),
        alias="ANTHROPIC_API_KEY",
        description="Key for the claude models. Empty: claude is not configured.",
    )
    base_url: str = Field(
        "https://api.anthropic.com",
        alias="ANTHROPIC_BASE_URL",
        pattern=r"^https?://[^\s?#@]+$",
        description="Address of the Messages API, without /v1. A gateway that speaks the same format works too.",
    )


class OpenAISettings(ReachSettings):
    """How to reach models over the chat completions wire format, OpenAI's and of servers that speak it."""

    model_config = SettingsConfigDict(env_prefix="AGENTOS_OPENAI_", frozen=True, extra="ignore", populate_by_name=True)

    api_key: SecretStr = Field(
        SecretStr(""),
        alias="OPENAI_API_KEY",
        description="Key for the models of provider openai. Empty: openai is not configured, unless it is local.",
    )
    base_url: str = Field(
        "https://api.openai.com/v1",
        alias="OPENAI_BASE_URL",
        pattern=r"^https?://[^\s?#@]+$",
        description="Address of the chat completions of provider openai, with /v1.",
    )
    endpoints: str = Field(
        "",
        max_length=4000,
        description="Further servers as name=address, separated by ','; each name is a provider. "
        "The key of NAME is AGENTOS_SECRET_NAME_KEY.",
    )
    local: str = Field(
        "",
        max_length=1000,
        description="Those of these providers, separated by ',', that run on machines of your own: "
        "they need no key, and may be told what must not leave.",
    )

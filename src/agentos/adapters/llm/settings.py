"""Settings of the adapters for models."""

from __future__ import annotations

from pydantic import Field, SecretStr

from agentos.kernel.settings import Section


class ClaudeSettings(Section):
    """How to reach models over the Anthropic Messages wire format."""

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
    connect_seconds: float = Field(
        5.0,  # three SYN retransmissions (1 s, 2 s) fit; a host that took longer is better asked again
        gt=0,
        alias="AGENTOS_CLAUDE_CONNECT_SECONDS",
        description="How long a connection to the Messages API may take, TLS included.",
    )
    silence_seconds: float = Field(
        60.0,  # half of the default call timeout (120 s): a dead connection leaves time for a second attempt
        gt=0,
        alias="AGENTOS_CLAUDE_SILENCE_SECONDS",
        description="How long an answer's stream may be silent before it is given up; pings count as life.",
    )
    answer_bytes: int = Field(
        16 * 1024 * 1024,  # the longest answers (128k tokens) are ~0.5 MB of text and ~20× that as one-token events
        ge=1024,
        alias="AGENTOS_CLAUDE_ANSWER_BYTES",
        description="Largest answer that is read, in bytes of its stream.",
    )

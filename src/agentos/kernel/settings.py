"""Settings are small frozen sections, one per feature, read from the environment once in ``apps``.

A section names its variables by its prefix and the field in upper case; an alias is the whole name of a variable, where
a runbook or a convention has one. Every field has a description and a default that works on one machine.
"""

from __future__ import annotations

from typing import Any, Self

from pydantic import Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from agentos.kernel.errors import Invalid


class BadSetting(Invalid):
    """A variable of the environment has a value that its setting does not accept."""

    code = "bad_setting"


class Section(BaseSettings):
    """A frozen group of settings. Subclass it with an ``env_prefix`` and described fields."""

    model_config = SettingsConfigDict(env_prefix="AGENTOS_", frozen=True, extra="ignore", populate_by_name=True)

    @classmethod
    def read(cls, **given: Any) -> Self:
        """Read the section from the environment; ``given`` values win. Raises BadSetting (Invalid)."""
        try:
            return cls(**given)
        except ValidationError as error:
            first = error.errors(include_input=False, include_url=False)[0]
            name = ".".join(str(part) for part in first["loc"])
            prefix = cls.model_config.get("env_prefix", "")
            variable = name if name.isupper() else f"{prefix}{name}".upper()
            raise BadSetting(f"{variable}: {first['msg']}", then="See docs/reference/settings.md.") from None


class DatabaseSettings(Section):
    """How to reach PostgreSQL."""

    url: SecretStr = Field(
        SecretStr(""),
        alias="DATABASE_URL",
        description="PostgreSQL of the platform, postgresql://user:password@host:port/name. Empty: the embedded one.",
    )
    pool_size: int = Field(
        10, ge=2, le=200, alias="AGENTOS_DATABASE_POOL_SIZE", description="Connections a process keeps per pool."
    )
    acquire_seconds: float = Field(
        5.0,
        gt=0,
        alias="AGENTOS_DATABASE_ACQUIRE_SECONDS",
        description="How long a request waits for a connection before it is answered Unavailable.",
    )
    ledger_key: str = Field(
        "",
        alias="AGENTOS_LEDGER_KEY",
        description="File (0600) with the key that seals facts and chains the ledger, and below it those before it. "
        "Empty: none is kept; 'agentos up' makes one.",
    )


class TemporalSettings(Section):
    """How to reach Temporal."""

    address: str = Field(
        "", alias="TEMPORAL_ADDRESS", description="Temporal front end, host:port. Empty: the embedded one."
    )
    namespace: str = Field("default", alias="TEMPORAL_NAMESPACE", description="Temporal namespace of the platform.")
    task_queue: str = Field("agentos", alias="AGENTOS_TASK_QUEUE", description="Task queue that the workers serve.")


class LogSettings(Section):
    """What is logged."""

    level: str = Field("INFO", alias="LOG_LEVEL", description="Lowest level that is logged.")
    skill_params: bool = Field(
        False,
        alias="LOG_SKILL_PARAMS",
        description="Log the parameters of skill calls. They may hold sensitive data; off unless set.",
    )


class TraceSettings(Section):
    """Where spans go. OpenTelemetry's other variables (headers, sampler, batches) are honoured as it defines them."""

    endpoint: str = Field(
        "",
        alias="OTEL_EXPORTER_OTLP_ENDPOINT",
        description="Collector that is told of spans over OTLP/HTTP, http://host:4318. Empty: there are no spans.",
    )
    content: bool = Field(
        False,
        alias="OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT",
        description="Put prompts, answers and arguments into spans, masked as logs are. They may be sensitive.",
    )


class SigningSettings(Section):
    """What signs receipts, proofs and links."""

    key: str = Field(
        "",
        alias="AGENTOS_SIGNING_KEY",
        description="File (0600) with the Ed25519 key that signs documents. Empty: none; 'agentos up' makes one.",
    )

"""Every section of settings, read from the environment once per process."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from agentos.adapters.embeddings.settings import EmbeddingSettings
from agentos.adapters.events.settings import BusSettings
from agentos.adapters.llm.settings import ClaudeSettings, OpenAISettings
from agentos.adapters.notify.settings import SlackSettings, SmtpSettings
from agentos.adapters.skills.settings import HttpSettings, WebhookSettings
from agentos.control.privacy.settings import PrivacySettings
from agentos.control.stops.settings import StopSettings
from agentos.evidence.artifacts.settings import EvidenceSettings
from agentos.evidence.evals.settings import EvalSettings
from agentos.evidence.ledger.settings import LedgerSettings
from agentos.evidence.replay.settings import GoldenSettings
from agentos.intake.identity.settings import OidcSettings
from agentos.intake.requests.settings import RequestSettings
from agentos.kernel.settings import (
    DatabaseSettings,
    LogSettings,
    Section,
    SigningSettings,
    TemporalSettings,
    TraceSettings,
)
from agentos.operations.notifications.settings import NotificationSettings
from agentos.operations.rollouts.settings import RolloutSettings
from agentos.runtime.gateway.settings import GatewaySettings
from agentos.runtime.inference.settings import RouterSettings
from agentos.runtime.runs.settings import RunSettings
from agentos.runtime.skills.settings import RegistrySettings


class AppSettings(Section):
    """What a process of the platform is told by whoever starts it."""

    model_config = SettingsConfigDict(env_prefix="AGENTOS_", frozen=True, extra="ignore", populate_by_name=True)

    service: str = Field("agentos", description="Name of this process in logs and on the metrics page.")
    host: str = Field("127.0.0.1", description="Address that the API listens on.")
    port: int = Field(8000, ge=0, le=65535, description="Port that the API listens on.")
    metrics_port: int = Field(0, ge=0, le=65535, description="Port of a worker's metrics page; 0 chooses a free one.")
    skills: str = Field("", description="Modules that declare skills and stub behaviours, separated by ','.")


def skill_modules(settings: AppSettings) -> list[str]:
    """The modules named by AGENTOS_SKILLS."""
    return [name.strip() for name in settings.skills.split(",") if name.strip()]


def roots(settings: RunSettings) -> tuple[Path, ...]:
    """The folders named by AGENTOS_RUN_ROOTS."""
    return tuple(Path(name).resolve() for name in settings.roots.split(":") if name)


__all__ = [
    "AppSettings",
    "BusSettings",
    "ClaudeSettings",
    "DatabaseSettings",
    "EmbeddingSettings",
    "EvalSettings",
    "EvidenceSettings",
    "GatewaySettings",
    "GoldenSettings",
    "HttpSettings",
    "LedgerSettings",
    "LogSettings",
    "NotificationSettings",
    "OidcSettings",
    "OpenAISettings",
    "PrivacySettings",
    "RegistrySettings",
    "RequestSettings",
    "RolloutSettings",
    "RouterSettings",
    "RunSettings",
    "SigningSettings",
    "SlackSettings",
    "SmtpSettings",
    "StopSettings",
    "TemporalSettings",
    "TraceSettings",
    "WebhookSettings",
    "roots",
    "skill_modules",
]

"""Settings of questions about evidence."""

from __future__ import annotations

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from agentos.kernel.settings import Section


class EvidenceSettings(Section):
    """Who puts answers about evidence into sentences."""

    model_config = SettingsConfigDict(
        env_prefix="AGENTOS_EVIDENCE_", frozen=True, extra="ignore", populate_by_name=True
    )

    model: str = Field(
        "",
        max_length=200,
        description="PROVIDER/MODEL that answers 'agentos ask' from what was found. Empty: no model is asked.",
    )
    seconds: float = Field(30.0, gt=0, le=600, description="How long that model is waited for, all tries together.")
    max_tokens: int = Field(1500, ge=100, le=100_000, description="Most tokens of its answer.")

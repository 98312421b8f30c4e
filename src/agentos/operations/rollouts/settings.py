"""Settings of rollouts."""

from __future__ import annotations

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from agentos.kernel.settings import Section


class RolloutSettings(Section):
    """When canaries and rollbacks are judged."""

    model_config = SettingsConfigDict(env_prefix="AGENTOS_ROLLOUT_", frozen=True, extra="ignore", populate_by_name=True)

    look_seconds: float = Field(
        5.0, gt=0, le=3600, description="Between two looks of a worker at canaries and at the checks of rollbacks."
    )
    canary_samples: int = Field(
        10,
        ge=2,
        le=100_000,
        description="Runs of the canary, and of the version beside it, below which they are not compared.",
    )
    canary_hang_seconds: float = Field(
        300.0,
        gt=0,
        le=86_400,
        description="No run of a canary is late before that; later it is, if it takes three times the p95 beside it.",
    )
    validation_samples: int = Field(
        5, ge=1, le=100_000, description="Runs after a rollback below which nobody can say whether success recovered."
    )

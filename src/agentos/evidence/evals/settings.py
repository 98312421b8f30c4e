"""Settings of evals."""

from __future__ import annotations

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from agentos.kernel.settings import Section


class EvalSettings(Section):
    """How a worker leaves its evals."""

    model_config = SettingsConfigDict(env_prefix="AGENTOS_EVALS_", frozen=True, extra="ignore", populate_by_name=True)

    leave_seconds: float = Field(
        8.0,  # 'agentos down' and 'docker stop' kill after ten
        ge=0,
        le=3600,
        description="How long a worker that shuts down lets model calls of evals end, so that their answers are kept; "
        "then it cuts them. Keep it below the time after which your supervisor kills.",
    )

"""Limits of runs."""

from __future__ import annotations

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from agentos.kernel.settings import Section


class RunSettings(Section):
    """Limits of runs and of the workers that execute them."""

    model_config = SettingsConfigDict(env_prefix="AGENTOS_RUN_", frozen=True, extra="ignore", populate_by_name=True)

    segment_seconds: float = Field(
        600.0, gt=0, description="Longest uninterrupted stretch of a run before it hands itself on."
    )
    inline_seconds: float = Field(
        1.0, gt=0, description="Longest stretch on the low-latency path before a run goes on under heartbeats."
    )
    send_window_seconds: float = Field(
        2.0, gt=0, description="How long after its intent was journaled an effect may still be sent."
    )
    approval_seconds: float = Field(86400.0, gt=0, description="How long an approval waits before it counts as a no.")
    sweep_seconds: float = Field(
        5.0, gt=0, description="Between looks for runs whose workflow is gone, for example after the engine was lost."
    )
    concurrency: int = Field(50, ge=1, le=1000, description="Segments a worker executes at once.")
    cached_workflows: int = Field(
        250,  # 0.2 MB each beside a worker's own 114 MB: 1,000 parked runs stay under 200 MB in it
        ge=10,
        description="Parked runs whose workflow a worker keeps in memory; others are replayed when woken.",
    )
    roots: str = Field(
        "", description="Folders that skills may read and write, separated by ':'. Empty: none; file skills refuse."
    )

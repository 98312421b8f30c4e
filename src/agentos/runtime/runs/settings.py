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
    stop_look_seconds: float = Field(
        0.5, gt=0, description="Between looks of a process whether a stop concerns its live runs: one query for all."
    )
    stop_blind_seconds: float = Field(
        5.0, gt=0, description="After so long without being able to look, a process begins no step of any run."
    )
    stop_grace_seconds: float = Field(
        30.0, ge=0, description="After a kill or pause, how long a read or a model's answer under way may still take."
    )
    stop_force_seconds: float = Field(
        60.0, ge=0, description="After a kill or pause, when a call that was sent before is no longer waited for."
    )
    stop_recheck_seconds: float = Field(
        300.0, gt=0, description="How often a held run looks by itself whether it may go on, should a signal be lost."
    )
    held_most: int = Field(
        1000, ge=0, le=1_000_000, description="Runs that are accepted for one deployment while a stop holds it."
    )
    roots: str = Field(
        "", description="Folders that skills may read and write, separated by ':'. Empty: none; file skills refuse."
    )

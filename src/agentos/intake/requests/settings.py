"""Limits of requests."""

from __future__ import annotations

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from agentos.kernel.settings import Section


class RequestSettings(Section):
    """What one caller may ask of a process of the API."""

    model_config = SettingsConfigDict(env_prefix="AGENTOS_REQUEST_", frozen=True, extra="ignore", populate_by_name=True)

    rate_per_minute: int = Field(
        6000, ge=1, le=10_000_000, description="Requests of one key in a minute, in each process of the API."
    )
    # A request for a run costs the process 8 ms of its one core and waits about as long for others, so two in service
    # keep it busy; what stands beside two of a noisy neighbour takes about twice its time (make bench-door). Eight
    # places: four organizations at their limit, before anybody waits for anybody else.
    at_once: int = Field(
        8,
        ge=1,
        le=1000,
        description="Requests in service at once in each process of the API; the others wait, organizations in turn.",
    )
    at_once_each: int = Field(
        2, ge=1, le=1000, description="Requests of one organization in service at once in each process of the API."
    )
    # With two places, three makes half a request of a noisy organization at a time, which leaves a quiet neighbour on
    # two cores its p95 twice what it is alone (make bench-door).
    rest: float = Field(
        3.0,
        ge=0,
        le=100,
        description="How many times as long as it was taken a place rests while others are about and more wait for it.",
    )
    waiting: int = Field(
        1000,
        ge=1,
        le=100_000,
        description="Requests of one organization that may wait in each process; one more is answered Unavailable.",
    )

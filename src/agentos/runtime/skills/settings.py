"""Settings of the registry of skills."""

from __future__ import annotations

from pydantic import Field

from agentos.kernel.settings import Section


class RegistrySettings(Section):
    """Whether new skills are let into the registry."""

    read_only: bool = Field(
        False,
        alias="REGISTRY_READ_ONLY",
        description="Register and restore nothing: skills that the registry knows are served, others are not.",
    )

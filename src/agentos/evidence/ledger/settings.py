"""Where the heads of chains are anchored."""

from __future__ import annotations

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from agentos.kernel.settings import Section


class LedgerSettings(Section):
    """The ledger's anchors, outside the database."""

    model_config = SettingsConfigDict(env_prefix="AGENTOS_LEDGER_", frozen=True, extra="ignore", populate_by_name=True)

    anchors: str = Field(
        "",
        description="Folder with a file for each organization, to which the end of its chain is appended every few "
        "seconds; best on another disk. Empty: none, and a cut end is not found; 'agentos up' keeps one in its home.",
    )

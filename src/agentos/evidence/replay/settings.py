"""Where golden runs lie, and what signs them."""

from __future__ import annotations

from pydantic import Field, SecretStr
from pydantic_settings import SettingsConfigDict

from agentos.kernel.settings import Section


class GoldenSettings(Section):
    """Golden runs: recordings as signed files."""

    model_config = SettingsConfigDict(env_prefix="AGENTOS_GOLDEN_", frozen=True, extra="ignore", populate_by_name=True)

    key: SecretStr = Field(
        SecretStr(""),
        description="Secret of 16 characters at least that signs golden files. Empty: only samples can be checked.",
    )
    folder: str = Field("tests/golden", description="Where golden files lie that are named without a folder.")

"""Settings of what makes vectors of texts."""

from __future__ import annotations

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from agentos.kernel.settings import Section


class EmbeddingSettings(Section):
    """Where vectors of texts are made, for finding evidence by likeness."""

    model_config = SettingsConfigDict(
        env_prefix="AGENTOS_EMBEDDINGS_", frozen=True, extra="ignore", populate_by_name=True
    )

    url: str = Field(
        "",
        pattern=r"^(https?://[^\s?#@]+)?$",
        description="Address of an OpenAI-compatible API, with /v1. Empty: vectors of letters, made in the process.",
    )
    model: str = Field("text-embedding-3-small", min_length=1, max_length=200, description="The model that is asked.")
    key: str = Field(
        "",
        pattern=r"^(secret://[A-Za-z0-9_-]{1,64})?$",
        description="Its key, by reference. Empty: none is sent.",
    )
    dimensions: int = Field(
        0, ge=0, le=4000, description="Length of its vectors, where the model can be told one; 0: its own."
    )
    floor: float = Field(
        0.3, ge=-1, le=1, description="Least cosine of texts that are alike; another model needs another one."
    )
    seconds: float = Field(10.0, gt=0, le=120, description="How long one call may take.")

"""Settings of the embedded stack."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field

from agentos.apps import home
from agentos.kernel.settings import Section

IsolationChoice = Literal["auto", "namespace", "system_user"]


class EmbeddedSettings(Section):
    """Where the embedded stack lives and how large it is."""

    home: Path = Field(
        home.DEFAULT,
        alias="AGENTOS_HOME",
        description="Folder of the embedded stack: data, logs, passwords, ports.",
    )
    workers: int = Field(
        2, ge=0, le=64, alias="AGENTOS_WORKERS", description="Workers of a new home; later `agentos scale worker N`."
    )
    api_port: int = Field(
        0,
        ge=0,
        le=65535,
        alias="AGENTOS_API_PORT",
        description="Port of the API on loopback. 0: a free one, remembered.",
    )
    postgres_isolation: IsolationChoice = Field(
        "auto",
        alias="AGENTOS_POSTGRES_ISOLATION",
        description="How PostgreSQL avoids running as root: namespace, system_user, or auto (the first that works).",
    )

"""Settings of the recognizer that comes with the platform."""

from __future__ import annotations

from pydantic import Field

from agentos.kernel.settings import Section


class ListedSettings(Section):
    """What the recognizer 'listed' knows."""

    file: str = Field(
        "",
        alias="AGENTOS_PRIVACY_LIST",
        description="File of the recognizer 'listed': a line each of 'kind: words', as 'name: Ann Lee'.",
    )

"""Settings of the built-in skills."""

from __future__ import annotations

from pydantic import Field

from agentos.kernel.settings import Section


class WebhookSettings(Section):
    """Where webhook_send may send, and where events may go."""

    allow: str = Field(
        "",
        alias="AGENTOS_WEBHOOK_ALLOW",
        description="Hosts that webhooks may reach although their address is not public: host or host:port, by commas.",
    )

    @property
    def hosts(self) -> tuple[str, ...]:
        """The allowed hosts, in lower case, for ``SkillContext.hosts``."""
        return tuple(host for part in self.allow.split(",") if (host := part.strip().lower()))

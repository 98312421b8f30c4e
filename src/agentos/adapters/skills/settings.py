"""Settings of the built-in skills."""

from __future__ import annotations

from pydantic import Field

from agentos.kernel.settings import Section


class WebhookSettings(Section):
    """Where webhook_send may send, and where events may go."""

    allow: str = Field(
        "",
        alias="AGENTOS_WEBHOOK_ALLOW",
        description="Hosts that webhooks, http_get and http_request may reach although their address is not public: "
        "host or host:port, by commas.",
    )

    @property
    def hosts(self) -> tuple[str, ...]:
        """The allowed hosts, in lower case, for ``SkillContext.hosts``."""
        return _listed(self.allow)


class HttpSettings(Section):
    """What http_get and http_request may ask."""

    allow: str = Field(
        "",
        alias="AGENTOS_HTTP_ALLOW",
        description="Hosts that http_get and http_request may ask: host, host:port, *.domain, or * for every host with "
        "a public address, by commas. Empty: none.",
    )

    @property
    def hosts(self) -> tuple[str, ...]:
        """The allowed hosts, in lower case, for ``SkillContext.egress``."""
        return _listed(self.allow)


def _listed(text: str) -> tuple[str, ...]:
    return tuple(host for part in text.split(",") if (host := part.strip().lower()))

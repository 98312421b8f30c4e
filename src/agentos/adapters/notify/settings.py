"""Settings of the ways to people."""

from __future__ import annotations

from typing import Literal

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from agentos.kernel.settings import Section


class SmtpSettings(Section):
    """The mail server that messages to people go by."""

    model_config = SettingsConfigDict(env_prefix="AGENTOS_SMTP_", frozen=True, extra="ignore", populate_by_name=True)

    host: str = Field("", description="Mail server. Empty: nobody is told by e-mail.")
    port: int = Field(587, ge=1, le=65535, description="Its port.")
    tls: Literal["starttls", "tls", "none"] = Field(
        "starttls", description="How the connection is encrypted; none is for a server on this very machine."
    )
    user: str = Field("", description="Whom to sign in as. Empty: nobody.")
    password: str = Field(
        "secret://smtp", pattern=r"^secret://[A-Za-z0-9_-]{1,64}$", description="The password, by reference."
    )
    sender: str = Field("agentos@localhost", pattern=r"^[^\s@<>,]+@[^\s@<>,]+$", description="Whom messages come from.")


class SlackSettings(Section):
    """Where Slack is reached. Workspaces are connected by organizations."""

    model_config = SettingsConfigDict(env_prefix="AGENTOS_SLACK_", frozen=True, extra="ignore", populate_by_name=True)

    api: str = Field(
        "https://slack.com/api/", pattern=r"^https?://[^\s]+$", description="Slack's Web API, or a stand-in for it."
    )

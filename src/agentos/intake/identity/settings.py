"""Settings of sign-in with an identity provider."""

from __future__ import annotations

from pydantic import Field, SecretStr
from pydantic_settings import SettingsConfigDict

from agentos.kernel.settings import Section


class OidcSettings(Section):
    """An OpenID Connect provider whose word on who somebody is we take. Its people must be known here already."""

    model_config = SettingsConfigDict(env_prefix="AGENTOS_OIDC_", frozen=True, extra="ignore", populate_by_name=True)

    issuer: str = Field(
        "",
        pattern=r"^(https://[^\s?#]+|http://127\.0\.0\.1:[0-9]+[^\s?#]*)?$",
        description="Address of the provider, as in its tokens. Empty: people sign in with passwords only.",
    )
    client_id: str = Field("", description="What the provider knows this platform as.")
    client_secret: SecretStr = Field(SecretStr(""), description="The secret that goes with it.")
    redirect: str = Field("", description="Our /api/v1/sessions/oidc/callback as the provider's pages reach it.")
    organization: str = Field("main", description="Organization whose people sign in there.")
    claim: str = Field("preferred_username", description="Claim of the token that is a person's handle here.")

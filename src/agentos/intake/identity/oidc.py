"""Sign in through an OpenID Connect provider: authorization code with PKCE, state and nonce.

The provider says who somebody is; whether they are one of ours and what they may do is said here.
"""

from __future__ import annotations

import hmac
import json
import secrets
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, Final

import httpx2
import structlog
from authlib.common.errors import AuthlibBaseError
from authlib.integrations.httpx_client import AsyncOAuth2Client
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet

from agentos.intake.identity.model import OidcNotConfigured, ProviderAway, Unauthorized
from agentos.intake.identity.settings import OidcSettings

log = structlog.get_logger(__name__)

COOKIE: Final = "agentos_oidc"
WAY_SECONDS: Final = 600  # for a person to sign in at the provider
TIMEOUT_SECONDS: Final = 10.0
LEEWAY_SECONDS: Final = 30  # between the provider's clock and ours
ALGORITHMS: Final = ["RS256", "ES256", "PS256", "EdDSA"]  # never 'none', never a shared secret


@dataclass(frozen=True, slots=True)
class Way:
    """What the browser keeps while its person is at the provider."""

    state: str
    nonce: str
    verifier: str

    def cookie(self) -> str:
        """As the cookie holds it."""
        return json.dumps(asdict(self))


class Provider:
    """The provider of this process."""

    def __init__(self, settings: OidcSettings) -> None:
        self._settings = settings

    @property
    def organization(self) -> str:
        """Whose people sign in there."""
        return self._settings.organization

    async def begin(self) -> tuple[str, Way]:
        """Where to send the browser, and what it keeps. Raises OidcNotConfigured, ProviderAway (Unavailable)."""
        found = await self._described()
        way = Way(secrets.token_urlsafe(24), secrets.token_urlsafe(24), secrets.token_urlsafe(48))
        async with self._client() as client:
            address, _ = client.create_authorization_url(
                found["authorization_endpoint"], state=way.state, nonce=way.nonce, code_verifier=way.verifier
            )
        return address, way

    async def finish(self, kept: str, state: str, code: str, *, at: datetime) -> str:
        """The handle of whoever the provider says came back. Raises Unauthorized (401), ProviderAway (Unavailable)."""
        way = _way(kept)
        if way is None or not hmac.compare_digest(way.state.encode(), state.encode()):
            raise Unauthorized("this is not the end of a sign-in that began here", then="Begin again.")
        found = await self._described()
        try:
            async with self._client() as client:
                token = await client.fetch_token(found["token_endpoint"], code=code, code_verifier=way.verifier)
            async with httpx2.AsyncClient(timeout=TIMEOUT_SECONDS) as client:
                keys = (await client.get(found["jwks_uri"])).raise_for_status().json()
            said = jwt.decode(token["id_token"], KeySet.import_key_set(keys), algorithms=ALGORITHMS)
            claims = said.claims
            jwt.JWTClaimsRegistry(
                now=round(at.timestamp()),
                leeway=LEEWAY_SECONDS,
                iss={"essential": True, "value": self._settings.issuer},
                aud={"essential": True, "value": self._settings.client_id},
                exp={"essential": True},
                iat={"essential": True},
                sub={"essential": True},
                nonce={"essential": True, "value": way.nonce},
            ).validate(claims)
        except httpx2.HTTPError as error:
            raise _away(error) from None
        except (AuthlibBaseError, JoseError, KeyError, ValueError) as error:
            log.warning("oidc_refused", error=type(error).__name__)
            raise Unauthorized("the provider did not say who you are", then="Begin again.") from None
        handle = claims.get(self._settings.claim)
        if not isinstance(handle, str):
            raise Unauthorized(f"the provider's token has no '{self._settings.claim}'", then="Set AGENTOS_OIDC_CLAIM.")
        return handle.partition("@")[0].lower()[:63]

    async def _described(self) -> dict[str, Any]:
        if not self._settings.issuer:
            raise OidcNotConfigured("people sign in with passwords here", then="Set AGENTOS_OIDC_ISSUER.")
        try:
            async with httpx2.AsyncClient(timeout=TIMEOUT_SECONDS) as client:
                answer = await client.get(f"{self._settings.issuer.rstrip('/')}/.well-known/openid-configuration")
                found: dict[str, Any] = answer.raise_for_status().json()
        except (httpx2.HTTPError, ValueError) as error:
            raise _away(error) from None
        if found.get("issuer") != self._settings.issuer:
            raise ProviderAway("the provider calls itself by another name", then="Mend AGENTOS_OIDC_ISSUER.")
        return found

    def _client(self) -> AsyncOAuth2Client:
        return AsyncOAuth2Client(
            self._settings.client_id,
            self._settings.client_secret.get_secret_value(),
            scope="openid profile email",
            redirect_uri=self._settings.redirect,
            code_challenge_method="S256",
            timeout=TIMEOUT_SECONDS,
        )


def _way(kept: str) -> Way | None:
    try:
        return Way(**json.loads(kept))
    except (ValueError, TypeError):
        return None


def _away(error: Exception) -> ProviderAway:
    log.warning("oidc_away", error=type(error).__name__)
    return ProviderAway("the identity provider does not answer", then="Try again, or sign in with a password.")

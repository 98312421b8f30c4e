"""Sign in through an identity provider: a real one on loopback, which also lies."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from aiohttp import web
from joserfc import jwt
from joserfc.jwk import KeySet, OctKey, RSAKey

from agentos.intake.identity.oidc import COOKIE
from agentos.kernel.ids import OrgId
from tests.fakes.serving import serving
from tests.journeys.conftest import Platform, running

CLIENT, SECRET = "agentos", "a client's secret"
Change = Callable[[dict[str, Any]], dict[str, Any]]


@dataclass
class Idp:
    """An identity provider that signs whoever comes in as ``handle``, or does as a test wants."""

    address: str = ""
    handle: str = "author@example.org"
    key: Any = field(default_factory=lambda: RSAKey.generate_key(2048, {"kid": "one"}))
    signs_with: Any = None
    algorithm: str = "RS256"
    change: Change = lambda claims: claims
    asked: dict[str, list[str]] = field(default_factory=dict)
    traded: list[dict[str, str]] = field(default_factory=list)

    async def described(self, _request: web.Request) -> web.Response:
        return web.json_response(
            {
                "issuer": self.address,
                "authorization_endpoint": f"{self.address}/authorize",
                "token_endpoint": f"{self.address}/token",
                "jwks_uri": f"{self.address}/keys",
            }
        )

    async def keys(self, _request: web.Request) -> web.Response:
        return web.json_response(KeySet([self.key]).as_dict(private=False))

    async def token(self, request: web.Request) -> web.Response:
        self.traded.append({name: str(value) for name, value in (await request.post()).items()})
        now = int(time.time())
        claims = self.change(
            {
                "iss": self.address,
                "aud": CLIENT,
                "sub": "42",
                "iat": now,
                "exp": now + 300,
                "nonce": self.asked["nonce"][0],
                "preferred_username": self.handle,
            }
        )
        header = {"alg": self.algorithm, "kid": "one"}
        signed = jwt.encode(header, claims, self.signs_with or self.key, algorithms=[self.algorithm])
        return web.json_response({"access_token": "x", "token_type": "Bearer", "id_token": signed})


@asynccontextmanager
async def listening(idp: Idp) -> AsyncIterator[Idp]:
    async with serving(
        web.get("/.well-known/openid-configuration", idp.described),
        web.get("/keys", idp.keys),
        web.post("/token", idp.token),
    ) as port:
        idp.address = f"http://127.0.0.1:{port}"
        yield idp


@pytest.fixture
async def idp() -> AsyncIterator[Idp]:
    async with listening(Idp()) as found:
        yield found


@pytest.fixture
async def federated(database_url: str, monkeypatch: pytest.MonkeyPatch, idp: Idp) -> AsyncIterator[Platform]:
    """A platform that takes the provider's word."""
    monkeypatch.setenv("AGENTOS_OIDC_ISSUER", idp.address)
    monkeypatch.setenv("AGENTOS_OIDC_CLIENT_ID", CLIENT)
    monkeypatch.setenv("AGENTOS_OIDC_CLIENT_SECRET", SECRET)
    monkeypatch.setenv("AGENTOS_OIDC_REDIRECT", "http://127.0.0.1/api/v1/sessions/oidc/callback")
    monkeypatch.setenv("AGENTOS_OIDC_ORGANIZATION", "oidc-tests")
    async with running(database_url, monkeypatch, organization=OrgId("oidc-tests")) as found:
        yield found


async def begun(platform: Platform, idp: Idp) -> httpx.AsyncClient:
    """A browser that was sent to the provider."""
    one = httpx.AsyncClient(base_url=platform.address, timeout=20)
    sent = await one.get("/api/v1/sessions/oidc")
    assert sent.status_code == 303, sent.text
    assert sent.headers["location"].startswith(f"{idp.address}/authorize?")
    idp.asked = parse_qs(urlsplit(sent.headers["location"]).query)
    return one


async def back(one: httpx.AsyncClient, idp: Idp, **query: str) -> httpx.Response:
    return await one.get("/api/v1/sessions/oidc/callback", params={"state": idp.asked["state"][0], "code": "c"} | query)


async def test_a_person_whom_the_provider_names_signs_in(federated: Platform, idp: Idp) -> None:
    one = await begun(federated, idp)
    assert idp.asked["code_challenge_method"] == ["S256"]
    assert idp.asked["scope"] == ["openid profile email"]
    made = await back(one, idp)
    assert made.status_code == 201, made.text
    assert made.json()["handle"] == "author"
    assert idp.traded[0]["code_verifier"] not in str(idp.asked)
    assert (await one.get("/api/v1/me")).json()["handle"] == "author"
    assert COOKIE not in one.cookies
    assert (await back(one, idp)).status_code == 401  # once
    await one.aclose()


def another(**claims: Any) -> Change:
    return lambda said: said | claims


def without(name: str) -> Change:
    return lambda said: {key: value for key, value in said.items() if key != name}


@pytest.mark.parametrize(
    "change",
    [
        another(iss="https://evil.example"),
        another(aud="somebody else"),
        another(nonce="another"),
        another(exp=int(time.time()) - 3600),
        another(iat=int(time.time()) + 3600),
        without("nonce"),
        without("exp"),
        without("aud"),
        without("sub"),
        without("preferred_username"),
        another(preferred_username=["author"]),
        another(preferred_username="nobody"),
        another(preferred_username="x' OR '1'='1"),
    ],
)
async def test_a_token_that_does_not_say_so_opens_nothing(federated: Platform, idp: Idp, change: Change) -> None:
    idp.change = change
    one = await begun(federated, idp)
    refused = await back(one, idp)
    assert (refused.status_code, refused.json()["code"]) == (401, "unauthorized")
    assert "agentos_session" not in one.cookies
    await one.aclose()


@pytest.mark.parametrize("how", ["another key", "a shared secret"])
async def test_a_token_that_is_not_the_providers_opens_nothing(federated: Platform, idp: Idp, how: str) -> None:
    if how == "another key":
        idp.signs_with = RSAKey.generate_key(2048, {"kid": "one"})
    else:  # the public key taken for a secret, or the client's secret for a key
        idp.signs_with, idp.algorithm = OctKey.import_key(SECRET), "HS256"
    one = await begun(federated, idp)
    assert (await back(one, idp)).status_code == 401
    await one.aclose()


async def test_an_end_without_its_beginning_is_refused(federated: Platform, idp: Idp) -> None:
    one = await begun(federated, idp)
    assert (await back(one, idp, state="another")).status_code == 401
    async with httpx.AsyncClient(base_url=federated.address) as other:
        assert (await back(other, idp)).status_code == 401
        for cookie in ("{}", "[]", "x", json.dumps({"state": idp.asked["state"][0]})):
            other.cookies.set(COOKIE, cookie)
            assert (await back(other, idp)).status_code == 401
    assert idp.traded == []
    await one.aclose()


async def test_a_provider_that_is_away_or_another_is_told_so(federated: Platform, idp: Idp) -> None:
    here, idp.address = idp.address, "http://127.0.0.1:9"
    async with httpx.AsyncClient(base_url=federated.address) as one:
        answer = await one.get("/api/v1/sessions/oidc")
    assert (answer.status_code, answer.json()["code"]) == (503, "identity_provider_unavailable")
    idp.address = here
    await asyncio.sleep(0)


async def test_without_a_provider_there_is_none_to_go_to(platform: Platform) -> None:
    answer = await platform.nobody.get("/api/v1/sessions/oidc")
    assert (answer.status_code, answer.json()["code"]) == (404, "oidc_not_configured")

"""Sign in with a password, act in a session, and what ends or refuses it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from sqlalchemy import text

from agentos.intake.identity.sessions import COOKIE
from agentos.intake.requests import rates
from agentos.kernel.ids import OrgId
from tests.journeys.conftest import Platform, running

PASSWORD = "correct horse battery staple"


@pytest.fixture
async def organization(platform: Platform) -> OrgId:
    for handle in ("author", "admin"):
        answer = await platform.admin.put(f"/api/v1/people/{handle}/password", json={"password": PASSWORD})
        assert answer.status_code == 204, answer.text
    return OrgId((await platform.admin.get("/api/v1/me")).json()["organization"])


@asynccontextmanager
async def browser(platform: Platform) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=platform.address, headers={"Origin": platform.address}, timeout=20) as one:
        yield one


async def sign_in(
    client: httpx.AsyncClient, organization: str, handle: str = "author", password: str = PASSWORD
) -> Any:
    body = {"organization": organization, "handle": handle, "password": password}
    return await client.post("/api/v1/sessions", json=body)


async def test_a_person_signs_in_acts_by_their_role_and_signs_out(platform: Platform, organization: OrgId) -> None:
    async with browser(platform) as one:
        made = await sign_in(one, organization)
        assert made.status_code == 201, made.text
        cookie = made.headers["set-cookie"]
        assert all(word in cookie for word in ("HttpOnly", "SameSite=strict", "Max-Age=43200"))
        me = (await one.get("/api/v1/me")).json()
        assert (me["handle"], me["key_id"]) == ("author", made.json()["id"])
        assert (await one.get("/api/v1/keys")).status_code == 403
        kept = one.cookies[COOKIE]
        assert (await one.delete("/api/v1/sessions/current")).status_code == 204
        assert COOKIE not in one.cookies
        one.cookies.set(COOKIE, kept)
        assert (await one.get("/api/v1/me")).status_code == 401


@pytest.mark.parametrize(
    ("handle", "password"),
    [("author", PASSWORD + "!"), ("author", ""), ("nobody", PASSWORD), ("approver", PASSWORD), ("approver", "")],
)
async def test_what_is_wrong_is_not_told(platform: Platform, organization: OrgId, handle: str, password: str) -> None:
    async with browser(platform) as one:
        refused = await sign_in(one, organization, handle, password)
        elsewhere = await sign_in(one, "nowhere", handle, password)
    assert (refused.status_code, refused.json()["code"]) == (401, "unauthorized")
    assert refused.json()["detail"] == elsewhere.json()["detail"]
    async with platform.held.parts.doors.open(organization) as work:
        rows = await work.all(text("SELECT body FROM outbox WHERE name = 'AccessRefused'"))
    assert [(row.body["reason"], row.body["holder"]) for row in rows] == [("wrong_password", handle)]


async def test_guessing_a_password_is_stopped(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rates, "GUESSES_PER_MINUTE", 5)  # each takes a moment, on purpose, and the minute slides
    async with running(database_url, monkeypatch) as platform, browser(platform) as one:
        organization = (await platform.admin.get("/api/v1/me")).json()["organization"]
        answers = [(await sign_in(one, organization, password=f"guess number {n}")).status_code for n in range(6)]
    assert answers == [401] * 5 + [429]


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": ""},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Sec-Fetch-Site": "none"},
    ],
)
async def test_another_sites_page_changes_nothing_with_a_session(
    platform: Platform, organization: OrgId, headers: dict[str, str]
) -> None:
    async with browser(platform) as one:
        await sign_in(one, organization, "admin")
        body = {"handle": "mallory", "role": "admin"}
        refused = await one.post("/api/v1/people", json=body, headers=headers)
        assert (refused.status_code, refused.json()["code"]) == (401, "unauthorized")
        assert (await one.post("/api/v1/people", json=body)).status_code == 201


@pytest.mark.parametrize("how", ["disabled", "password", "expired"])
async def test_what_ends_a_session_ends_it_at_once(platform: Platform, organization: OrgId, how: str) -> None:
    async with browser(platform) as one:
        await sign_in(one, organization)
        assert (await one.get("/api/v1/me")).status_code == 200
        match how:
            case "disabled":
                await platform.admin.patch("/api/v1/people/author", json={"enabled": False})
            case "password":
                await platform.admin.put("/api/v1/people/author/password", json={"password": PASSWORD + "2"})
            case _:
                async with platform.held.parts.doors.open(organization) as work:
                    await work.run(text("UPDATE sessions SET expires_at = now()"))
        assert (await one.get("/api/v1/me")).status_code == 401


async def test_neither_password_nor_secret_is_kept(platform: Platform, organization: OrgId) -> None:
    async with browser(platform) as one:
        await sign_in(one, organization)
        secret = one.cookies[COOKIE]
    async with platform.held.parts.doors.open(organization) as work:
        people = str(await work.all(text("SELECT * FROM people")))
        rest = str(await work.all(text("SELECT * FROM sessions"))) + str(await work.all(text("SELECT * FROM outbox")))
    assert "$argon2id$" in people
    assert PASSWORD not in people + rest
    assert secret not in people + rest


@pytest.mark.parametrize("password", ["", "short", "x" * 11, "x" * 257])
async def test_a_password_has_a_length(platform: Platform, password: str) -> None:
    answer = await platform.admin.put("/api/v1/people/author/password", json={"password": password})
    assert answer.status_code == 422


@pytest.mark.parametrize("cookie", ["", "x", "x" * 4000, "aos_" + "x" * 43])
async def test_what_is_no_session_opens_nothing(platform: Platform, cookie: str) -> None:
    async with browser(platform) as one:
        one.cookies.set(COOKIE, cookie)
        assert (await one.get("/api/v1/runs")).status_code == 401

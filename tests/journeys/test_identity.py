"""People, machines and keys over HTTP: each does what its role and scopes allow, and every refusal is kept."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from fastapi.routing import APIRoute
from sqlalchemy import text

from agentos.apps.api.app import ROUTERS
from agentos.intake.identity.model import PEOPLE_ONLY, ROLES, Permission, Role
from agentos.intake.identity.refusals import NOBODYS
from agentos.kernel.ids import OrgId
from tests.journeys.conftest import Platform, running
from tests.runtime.runs.harness import DONE, calls

# Routes that need no permission: probes answer everybody, and these three are about the caller alone.
OF_EVERYBODY = {
    "/health",
    "/health/ready",
    "/health/adapters",
    "/health/determinism",
    "/health/ledger",
    "/health/registry",
    "/metrics",
    "/api/v1/signing-key",
}
OF_A_SIGNATURE = {"/api/v1/hooks/{address}", "/api/v1/inbox/slack"}  # whoever signed the call
OF_A_LINK = {"/api/v1/approvals/links/{token}"}  # whom the platform sent it to
OF_A_SIGN_IN = {"/api/v1/sessions", "/api/v1/sessions/oidc", "/api/v1/sessions/oidc/callback"}
# The body names a model or an agent, and so which permission it takes (test_gateway); the list holds what one may name.
OF_WHAT_IS_ASKED = {"/v1/chat/completions", "/v1/messages", "/v1/models"}
OF_ONESELF = {"/api/v1/me", "/api/v1/sessions/current", "/api/v1/keys/{key_id}/rotate", "/api/v1/keys/{key_id}/revoke"}


async def key(platform: Platform, **body: Any) -> dict[str, Any]:
    answer = await platform.admin.post("/api/v1/keys", json=body)
    assert answer.status_code == 201, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def person(platform: Platform, handle: str, role: str) -> str:
    """A new person's key."""
    added = await platform.admin.post("/api/v1/people", json={"handle": handle, "role": role})
    assert added.status_code == 201, added.text
    return str((await key(platform, person=handle))["secret"])


async def status(platform: Platform, secret: str, path: str = "/api/v1/me") -> int:
    async with platform.acting(secret) as client:
        return (await client.get(path)).status_code


async def facts(platform: Platform, name: str, organization: OrgId | None = None) -> list[dict[str, Any]]:
    org = organization or OrgId((await platform.admin.get("/api/v1/me")).json()["organization"])
    async with platform.held.parts.doors.open(org) as work:
        rows = await work.all(text("SELECT body FROM outbox WHERE name = :name ORDER BY seq"), {"name": name})
    return [row.body for row in rows]


def permission_of(route: APIRoute) -> Permission | None:
    found = [getattr(one.call, "permission", None) for one in route.dependant.dependencies]
    return next((one for one in found if one is not None), None)


def test_every_route_names_the_permission_it_takes() -> None:
    routes = [route for router in ROUTERS for route in router.routes if isinstance(route, APIRoute)]
    bare = {route.path for route in routes if permission_of(route) is None}
    assert bare == OF_EVERYBODY | OF_ONESELF | OF_A_SIGNATURE | OF_A_LINK | OF_A_SIGN_IN | OF_WHAT_IS_ASKED
    changes = {
        route.path for route in routes if not route.methods <= {"GET"} and permission_of(route) is Permission.READ
    }
    looks = {f"/api/v1/agents/policies/{verb}" for verb in ("decide", "simulate", "backtest")}
    looks |= {"/api/v1/agents/evidence/ask"}
    assert changes == looks | {"/api/v1/agents/triggers/simulate"}  # they only look; what at is too long for an address


def test_nobody_but_an_admin_both_operates_and_keeps_the_keys() -> None:
    assert {role for role, allowed in ROLES.items() if Permission.CHANGE_IDENTITY in allowed} == {Role.ADMIN}
    assert Permission.ANSWER_APPROVALS not in ROLES[Role.OPERATOR]
    assert not ROLES[Role.APPROVER] & {Permission.START_RUNS, Permission.CHANGE_DEPLOYMENTS, Permission.APPLY_AGENTS}
    assert ROLES[Role.ADMIN] == set(Permission)


async def test_a_viewer_looks_and_changes_nothing(platform: Platform) -> None:
    await platform.apply([DONE], [])
    async with platform.acting(await person(platform, "looker", "viewer")) as viewer:
        assert (await viewer.get("/api/v1/runs")).status_code == 200
        refused = await viewer.post("/api/v1/runs", json={"agent": "tester", "input": {"task_description": "go"}})
    assert (refused.status_code, refused.json()["code"]) == (403, "not_allowed")
    assert "runs.start" in refused.json()["detail"]
    (fact,) = [one for one in await facts(platform, "AccessRefused") if one["holder"] == "looker"]
    assert fact["reason"] == "not_allowed:runs.start"
    assert fact["route"] == "POST /api/v1/runs"


async def test_a_key_with_scopes_does_no_more_than_these(platform: Platform) -> None:
    narrow = await key(platform, person="admin", scopes=["read"])
    async with platform.acting(narrow["secret"]) as client:
        assert (await client.get("/api/v1/runs")).status_code == 200
        assert (await client.get("/api/v1/keys")).status_code == 403


async def test_a_machine_starts_runs_and_answers_for_nothing(platform: Platform) -> None:
    await platform.apply([calls(("pay", 1)), DONE], ["pay"], tier="L3")
    made = await key(platform, machine="ci", scopes=["read", "runs.start"])
    lasts = datetime.fromisoformat(made["expires_at"]) - datetime.now(UTC)
    assert timedelta(days=89) < lasts <= timedelta(days=90)
    async with platform.acting(made["secret"]) as machine:
        body = {"agent": "tester", "input": {"task_description": "go"}}
        run = (await machine.post("/api/v1/runs", json=body)).json()
        assert run["requested_by"] == "machine:ci"
        question = await platform.question(run["id"])
        assert (await machine.post(f"/api/v1/approvals/{question['id']}/approve", json={})).status_code == 403


@pytest.mark.parametrize("scope", sorted(PEOPLE_ONLY))
async def test_no_machine_gets_what_a_person_answers_for(platform: Platform, scope: str) -> None:
    answer = await platform.admin.post("/api/v1/keys", json={"machine": "ci", "scopes": [scope]})
    assert (answer.status_code, answer.json()["code"]) == (422, "bad_key_request")


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"person": "admin", "machine": "ci", "scopes": ["read"]},
        {"machine": "ci"},
        {"machine": "ci", "scopes": []},
        {"machine": "C I", "scopes": ["read"]},
        {"machine": "ci", "scopes": ["everything"]},
        {"person": "admin", "lasts": "0s"},
        {"person": "admin", "lasts": "367d"},
        {"person": "admin", "lasts": "soon"},
    ],
)
async def test_a_key_that_nobody_can_have_is_refused(platform: Platform, body: dict[str, Any]) -> None:
    assert (await platform.admin.post("/api/v1/keys", json=body)).status_code == 422


async def test_a_revoked_key_opens_nothing_from_the_next_request_on(platform: Platform) -> None:
    made = await key(platform, person="author")
    assert await status(platform, made["secret"]) == 200
    assert (await platform.admin.post(f"/api/v1/keys/{made['id']}/revoke")).status_code == 204
    assert await status(platform, made["secret"]) == 401
    assert [one["reason"] for one in await facts(platform, "AccessRefused")] == ["revoked_key"]
    assert (await platform.admin.post(f"/api/v1/keys/{made['id']}/rotate", json={})).status_code == 409


async def test_an_expired_key_opens_nothing(platform: Platform) -> None:
    made = await key(platform, person="author", lasts="200ms")
    assert await status(platform, made["secret"]) == 200
    await asyncio.sleep(0.3)
    assert await status(platform, made["secret"]) == 401
    assert [one["reason"] for one in await facts(platform, "AccessRefused")] == ["expired_key"]


async def test_a_rotated_key_goes_on_for_its_overlap_and_its_follower_is_like_it(platform: Platform) -> None:
    made = await key(platform, machine="ci", scopes=["read"], lasts="30d")
    async with platform.acting(made["secret"]) as machine:  # whoever has a key may rotate it
        follower = (await machine.post(f"/api/v1/keys/{made['id']}/rotate", json={"overlap": "300ms"})).json()
    assert (follower["holder"], follower["scopes"]) == ("machine:ci", ["read"])
    assert await status(platform, made["secret"]) == await status(platform, follower["secret"]) == 200
    await asyncio.sleep(0.4)
    assert await status(platform, made["secret"]) == 401
    assert await status(platform, follower["secret"]) == 200
    assert (await facts(platform, "KeyCreated"))[-1]["replaces"] == made["id"]


async def test_nobody_touches_the_key_of_another_without_the_permission(platform: Platform) -> None:
    made = await key(platform, person="approver")
    for verb in ("rotate", "revoke"):
        answer = await platform.author.post(f"/api/v1/keys/{made['id']}/{verb}", json={})
        assert (answer.status_code, answer.json()["code"]) == (404, "key_unknown")
    assert await status(platform, made["secret"]) == 200


async def test_a_disabled_person_may_not_act_until_enabled(platform: Platform) -> None:
    secret = await person(platform, "guest", "operator")
    assert (await platform.admin.patch("/api/v1/people/guest", json={"enabled": False})).json()["enabled"] is False
    assert await status(platform, secret) == 401
    assert (await platform.admin.patch("/api/v1/people/guest", json={"enabled": True})).json()["enabled"] is True
    assert await status(platform, secret) == 200


async def test_a_new_role_binds_the_next_request(platform: Platform) -> None:
    secret = await person(platform, "guest", "admin")
    assert await status(platform, secret, "/api/v1/people") == 200
    await platform.admin.patch("/api/v1/people/guest", json={"role": "viewer"})
    assert await status(platform, secret, "/api/v1/people") == 403
    changed = (await facts(platform, "PersonChanged"))[-1]
    assert (changed["handle"], changed["role"], changed["by"]) == ("guest", "viewer", "admin")


@pytest.mark.parametrize("change", [{"enabled": False}, {"role": "operator"}])
async def test_the_last_admin_stays(platform: Platform, change: dict[str, Any]) -> None:
    answer = await platform.admin.patch("/api/v1/people/admin", json=change)
    assert (answer.status_code, answer.json()["code"]) == (409, "last_admin")


async def test_nobody_gives_away_what_they_do_not_have(platform: Platform) -> None:
    keeper = await key(platform, person="admin", scopes=["identity.change"])
    async with platform.acting(keeper["secret"]) as client:
        for answer in (
            await client.post("/api/v1/people", json={"handle": "mallory", "role": "admin"}),
            await client.post("/api/v1/keys", json={"machine": "ci", "scopes": ["runs.start"]}),
            await client.post("/api/v1/keys", json={"person": "author"}),
            await client.patch("/api/v1/people/author", json={"role": "incident_commander"}),
        ):
            assert (answer.status_code, answer.json()["code"]) == (403, "not_allowed")


async def test_whoever_asked_for_a_run_does_not_approve_it_whatever_their_role(platform: Platform) -> None:
    await platform.apply([calls(("pay", 1)), DONE], ["pay"], tier="L3")
    body = {"agent": "tester", "input": {"task_description": "go"}}
    run = (await platform.admin.post("/api/v1/runs", json=body)).json()
    question = await platform.question(run["id"])
    refused = await platform.admin.post(f"/api/v1/approvals/{question['id']}/approve", json={})
    assert (refused.status_code, refused.json()["code"]) == (403, "approval_not_yours")


async def test_a_secret_is_told_once(platform: Platform) -> None:
    made = await key(platform, person="author")
    listed = (await platform.admin.get("/api/v1/keys")).json()["items"]
    assert made["id"] in [one["id"] for one in listed]
    assert all("secret" not in one and "hash" not in one for one in listed)
    assert made["secret"] not in str(await facts(platform, "KeyCreated"))


@pytest.mark.parametrize(
    "header", ["Bearer aos_" + "x" * 43, "Bearer x", "Bearer " + "a" * 4000, "Basic YTpi", "Bearer"]
)
async def test_what_is_no_key_is_told_so_and_how_to_ask(platform: Platform, header: str) -> None:
    answer = await platform.nobody.get("/api/v1/runs", headers={"Authorization": header})
    assert (answer.status_code, answer.json()["code"]) == (401, "unauthorized")
    assert answer.headers["www-authenticate"] == "Bearer"


async def test_a_flood_of_refusals_is_a_few_facts_and_then_429(platform: Platform) -> None:
    before = len(await facts(platform, "AccessRefused", NOBODYS))
    answers = [
        await platform.nobody.get("/api/v1/runs", headers={"Authorization": f"Bearer aos_{n}"}) for n in range(70)
    ]
    assert [one.status_code for one in answers[:60]] == [401] * 60
    assert answers[-1].status_code == 429
    assert 1 <= int(answers[-1].headers["retry-after"]) <= 60
    assert (await platform.author.get("/api/v1/runs")).status_code == 200  # who has a key is not kept out by guesses
    assert len(await facts(platform, "AccessRefused", NOBODYS)) - before <= 1


async def test_a_key_that_asks_too_often_is_told_when_to_come_back(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AGENTOS_REQUEST_RATE_PER_MINUTE", "5")
    async with running(database_url, monkeypatch) as platform:
        answers = [await platform.author.get("/api/v1/me") for _ in range(6)]
        assert [one.status_code for one in answers] == [200] * 5 + [429]
        assert answers[-1].json()["code"] == "rate_exceeded"
        assert 1 <= int(answers[-1].headers["retry-after"]) <= 60
        assert (await platform.approver.get("/api/v1/me")).status_code == 200


def test_every_permission_says_what_it_means_and_somebody_has_it() -> None:
    assert all(one.means for one in Permission)
    assert frozenset().union(*ROLES.values()) == frozenset(Permission)

"""The HTTP door: apply, deployments with their ETag, agents and versions."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from agentos.apps.bootstrap import give_key
from agentos.control.agents import routes as agents
from agentos.control.deployments import routes as deployments
from agentos.intake.identity.model import Role
from agentos.intake.identity.refusals import Refusals
from agentos.intake.requests.rates import Rates
from agentos.intake.requests.turns import Turns
from agentos.kernel import http
from agentos.kernel.database import Database
from agentos.kernel.ids import OrgId
from agentos.kernel.telemetry import Meter
from agentos.kernel.unit_of_work import Doors
from agentos.operations.rollouts import routes as rollouts
from tests.runtime.runs.harness import harness

from ..agents.catalogues import Models, Skills, document

BASE = "/api/v1/agents/deployments"


@pytest.fixture
async def client(database: Database, doors: Doors, organization: OrgId) -> AsyncIterator[httpx.AsyncClient]:
    app = FastAPI()
    http.install(app, Meter())
    app.include_router(deployments.router)
    app.include_router(rollouts.router)
    app.include_router(agents.router)
    app.state.doors, app.state.skills, app.state.models = doors, Skills("note@1"), Models()
    app.state.parts = harness(database, organization).parts
    app.state.rates, app.state.refusals = Rates(100_000), Refusals(doors, Meter())
    app.state.turns = Turns(8, 2, 1000)
    async with doors.open(organization) as work:
        key = await give_key(work, "operator", Role.OPERATOR)
    transport = httpx.ASGITransport(app)
    headers = {"Authorization": f"Bearer {key}"}
    async with httpx.AsyncClient(transport=transport, base_url="http://api", headers=headers) as held:
        yield held


async def apply(client: httpx.AsyncClient, *documents: dict[str, Any]) -> Any:
    answer = await client.post("/api/v1/agents", json={"documents": documents})
    assert answer.status_code == 200, answer.text
    return answer.json()["applied"]


async def test_a_version_is_applied_promoted_and_rolled_back(client: httpx.AsyncClient) -> None:
    (first,) = await apply(client, document())
    assert (first["result"], first["status"], first["revision"]) == ("created", "active", 1)
    (second,) = await apply(client, document(instructions="Better."))
    assert (second["number"], second["status"]) == (2, "draft")
    one = f"{BASE}/{first['deployment_id']}"
    promoted = await client.post(f"{one}/promote", json={"version": second["version"]})
    assert promoted.json()["version"] == second["version"]
    assert promoted.json()["last_known_good"]["version_number"] == 1
    back = await client.post(f"{one}/rollback")
    assert back.status_code == 200, back.text
    assert back.json()["version"] == first["version"]
    assert back.json()["last_known_good"] == "unknown"
    assert [(each["number"], each["status"]) for each in back.json()["history"]] == [
        (3, "active"),
        (2, "rolled_back"),
        (1, "superseded"),
    ]
    assert back.json()["history"][0]["created_by"] == "operator"


async def test_if_match_protects_from_changing_what_one_has_not_seen(client: httpx.AsyncClient) -> None:
    (made,) = await apply(client, document())
    one = f"{BASE}/{made['deployment_id']}"
    seen = (await client.get(one)).headers["ETag"]
    paused = await client.post(f"{one}/pause", headers={"If-Match": seen})
    assert paused.json()["state"] == "paused"
    assert paused.headers["ETag"] != seen
    stale = await client.post(f"{one}/resume", headers={"If-Match": seen})
    assert (stale.status_code, stale.json()["code"]) == (412, "precondition_failed")
    assert (await client.post(f"{one}/resume", headers={"If-Match": f'"0", {paused.headers["ETag"]}'})).is_success
    assert (await client.post(f"{one}/pause", headers={"If-Match": "*"})).is_success
    weak = f"W/{(await client.get(one)).headers['ETag']}"
    assert (await client.post(f"{one}/resume", headers={"If-Match": weak})).status_code == 412
    assert (await client.post(f"{one}/resume", headers={"If-Match": '"x"'})).status_code == 412
    assert (await client.post(f"{one}/resume", headers={"If-Match": "7"})).status_code == 422
    assert (await client.patch(one, json={"tier": "L1"}, headers={"If-Match": '"0"'})).status_code == 412
    assert (await client.patch(one, json={"tier": "L1"})).json()["tier"] == "L1"
    tried = await client.post(f"{one}/retire", params={"dry_run": True})
    assert (tried.json()["state"], tried.json()["impact"]["said"]) == ("retired", ["No run is open."])
    assert (await client.get(one)).json()["state"] == "paused"
    assert (await client.post(f"{one}/retire")).json()["state"] == "retired"


async def test_a_deployment_is_created_listed_and_shown(client: httpx.AsyncClient) -> None:
    await apply(client, document(), document("other"))
    made = await client.post(BASE, json={"agent_id": "writer", "environment": "staging", "tier": "L2", "serve": True})
    assert made.status_code == 201
    shown = await client.get(made.headers["Location"])
    assert shown.json() == made.json()
    assert shown.json()["tier"] == "L2"
    again = await client.post(BASE, json={"agent_id": "writer", "environment": "staging"})
    assert (again.status_code, again.json()["code"]) == (409, "deployment_exists")
    listed = (await client.get(BASE)).json()["items"]
    assert [(one["agent_id"], one["environment"]) for one in listed] == [
        ("other", "production"),
        ("writer", "production"),
        ("writer", "staging"),
    ]
    filtered = (await client.get(BASE, params={"agent": "writer", "environment": "staging"})).json()["items"]
    assert [one["id"] for one in filtered] == [made.json()["id"]]
    first = (await client.get(BASE, params={"limit": 2})).json()
    rest = (await client.get(BASE, params={"limit": 2, "cursor": first["next_cursor"]})).json()
    assert [*first["items"], *rest["items"]] == listed
    assert rest["next_cursor"] is None


async def test_agents_and_versions_are_listed_page_by_page(client: httpx.AsyncClient) -> None:
    for number in range(3):
        await apply(client, document(instructions=f"Write {number}."), document("other"))
    names = (await client.get("/api/v1/agents", params={"limit": 1})).json()
    assert names["items"][0]["id"] == "other"
    assert (await client.get("/api/v1/agents", params={"cursor": names["next_cursor"]})).json()["items"][0][
        "versions"
    ] == 3
    versions = "/api/v1/agents/writer/versions"
    first = (await client.get(versions, params={"limit": 2})).json()
    rest = (await client.get(versions, params={"limit": 2, "cursor": first["next_cursor"]})).json()
    assert [one["number"] for one in (*first["items"], *rest["items"])] == [3, 2, 1]
    shown = (await client.get(f"{versions}/2")).json()
    assert shown["definition"]["instructions"] == "Write 1."
    assert (await client.get(f"{versions}/{shown['hash']}")).json() == shown
    assert (await client.get("/api/v1/agents/writer")).json()["definition"]["instructions"] == "Write 2."


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "code"),
    [
        ("GET", "/api/v1/agents/nobody", None, 404, "agent_unknown"),
        ("GET", "/api/v1/agents/No%00body", None, 422, "malformed_request"),
        ("GET", "/api/v1/agents/nobody/versions/1", None, 404, "agent_unknown"),
        ("GET", "/api/v1/agents/nobody/versions/a%00", None, 422, "malformed_request"),
        ("GET", "/api/v1/agents/writer/versions?cursor=eHg", None, 422, "bad_cursor"),
        ("GET", BASE + "/dep_x", None, 422, "malformed_id"),
        ("GET", BASE + "?agent=A%00", None, 422, "malformed_request"),
        ("POST", BASE, {"agent_id": "a\0b", "environment": "staging", "version": "1"}, 422, "malformed_id"),
        ("POST", BASE, {"agent_id": "nobody", "environment": "Staging"}, 422, "malformed_id"),
        ("POST", BASE, {"agent_id": "nobody", "environment": "staging"}, 404, "agent_unknown"),
        ("POST", BASE + "/dep_x/promote", {"version": "1", "reason": "a\0"}, 422, "malformed_request"),
        ("POST", BASE + "/dep_x/promote", {}, 422, "malformed_request"),
        ("POST", BASE + "/dep_x/rollback", {"to": "1"}, 422, "malformed_request"),
        ("PATCH", BASE + "/dep_x", {"tier": "L9"}, 422, "malformed_request"),
        ("POST", "/api/v1/agents", {"documents": []}, 422, "malformed_request"),
        ("POST", "/api/v1/agents", {"documents": [{}]}, 422, "manifest_invalid"),
        ("POST", "/api/v1/agents?environment=A", {"documents": [document()]}, 422, "malformed_request"),
    ],
)
async def test_what_is_asked_wrongly_is_a_problem_with_its_code(
    client: httpx.AsyncClient, method: str, path: str, body: Any, status: int, code: str
) -> None:
    answer = await client.request(method, path, json=body)
    assert (answer.status_code, answer.json()["code"]) == (status, code)


async def test_faults_of_documents_are_listed_with_their_paths(client: httpx.AsyncClient) -> None:
    answer = await client.post("/api/v1/agents", json={"documents": [document(skills=["gone@1"], tier="L3")]})
    assert answer.status_code == 422
    assert answer.json()["problems"] == [
        {
            "where": "documents[0].spec.skills[0]",
            "what": "skill 'gone' version '1' is not loaded",
            "next": "Check the spelling.",
            "code": "no_such_skill",
        }
    ]
    assert answer.json()["detail"].startswith("documents[0].spec.skills[0]: skill 'gone'")


async def test_without_a_key_there_is_no_door(client: httpx.AsyncClient) -> None:
    for path in ("/api/v1/agents", BASE):
        answer = await client.get(path, headers={"Authorization": "Bearer aos_wrong"})
        assert answer.status_code == 401

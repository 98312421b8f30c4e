"""Another organization's admin meets every route with ids that are not theirs, and finds nothing."""

from __future__ import annotations

import asyncio
from typing import Any

from fastapi.routing import APIRoute
from sqlalchemy import text

from agentos.apps.api.app import ROUTERS
from agentos.evidence.quality.model import Scope
from agentos.evidence.recommendations import store as recommendations
from agentos.evidence.recommendations.model import Kind, Recommendation, Standing
from agentos.kernel.clock import now
from agentos.kernel.ids import OrgId, RecommendationId, new
from tests.journeys.conftest import Platform, document
from tests.journeys.test_identity import OF_A_LINK, OF_A_SIGN_IN, OF_EVERYBODY
from tests.runtime.runs.harness import DONE, calls

# What is the platform's own: every organization reads the same.
OF_THE_PLATFORM = {f"/api/v1/skills/{{skill}}{verb}" for verb in ("", "/resolve", "/diff")}

# A body that would be accepted if the ids in the path were the caller's own.
BODIES: dict[str, Any] = {
    "PATCH /api/v1/agents/deployments/{deployment_id}": {"tier": "L1"},
    "POST /api/v1/agents/deployments/{deployment_id}/promote": {"version": "1"},
    "POST /api/v1/agents/deployments/{deployment_id}/canary": {"version": "1", "percent": 10},
    "POST /api/v1/agents/deployments/{deployment_id}/shadow": {"version": "1", "percent": 10},
    "PUT /api/v1/agents/deployments/{deployment_id}/policy": {"policy": {}},
    "POST /api/v1/runs/{run_id}/effects/{step}/settle": {"happened": True},
    "PATCH /api/v1/agents/triggers/{trigger_id}": {"is_enabled": False},
    "PUT /api/v1/people/{handle}/password": {"password": "correct horse battery"},
    "PATCH /api/v1/people/{handle}": {"role": "viewer"},
    "PATCH /api/v1/subscriptions/{subscription_id}": {"enabled": False},
    "PATCH /api/v1/people/{handle}/addresses": {"email": "stranger@example.com"},
    "POST /api/v1/inbox/threads/{thread_id}/messages": {"text": "hello"},
    "POST /api/v1/agents/quality/freezes/{freeze_id}/lift": {"reason": "over"},
    "POST /api/v1/agents/quality/recommendations/{recommendation_id}": {"standing": "accepted", "reason": "mine"},
}


TOLD = (
    "subscriptions",
    "deliveries",
    "inbox_threads",
    "inbox_messages",
    "run_messages",
    "people_addresses",
    "notifications",
    "eval_datasets",
    "evals",
    "eval_outcomes",
    "budgets",
    "model_prices",
    "quality_feedback",
    "quality_gates",
    "quality_freezes",
    "quality_recommendations",
)


async def victim(platform: Platform) -> dict[str, str]:
    """One of everything that an id can name."""
    applied = await platform.apply([calls(("pay", 1)), DONE], ["pay"], tier="L3")
    run = await platform.run()
    question = await platform.question(run["id"])
    drafts = await platform.author.post(
        "/api/v1/agents", json={"documents": [document([calls(("note", 1)), DONE], ["note"], tier="L1") | DRAFTER]}
    )
    assert drafts.status_code == 200, drafts.text
    drafted = await platform.author.post("/api/v1/runs", json={"agent": "drafter", "input": {"task_description": "go"}})
    await platform.until(drafted.json()["id"], "completed")
    (draft,) = (await platform.author.get("/api/v1/drafts")).json()["items"]
    await platform.admin.post("/api/v1/people", json={"handle": "victim", "role": "viewer"})
    trigger = await platform.author.post("/api/v1/agents/triggers", json={"name": "t", "agent": "tester", "event": {}})
    subscription = await told(platform)
    key = (await platform.admin.post("/api/v1/keys", json={"person": "victim"})).json()
    entry = {"kind": "pause", "scope": "agent", "target": "drafter"}
    stop = await platform.admin.post("/api/v1/stops", json=entry)
    assert stop.status_code == 201, stop.text
    return {
        "agent_id": "tester",
        "version": applied["version"],
        "deployment_id": applied["deployment_id"],
        "number": "1",
        "run_id": run["id"],
        "request_id": run["request_id"],
        "step": "t0.c0~1",
        "approval_id": question["id"],
        "token": "guessed",
        "entry": "1000000",
        "draft_id": draft["id"],
        "handle": "victim",
        "key_id": key["id"],
        "trigger_id": trigger.json()["id"],
        "address": "guessed",
        "stop_id": stop.json()["id"],
        "skill": "look",
        **await examined(platform),
        "digest": await read(platform, drafted.json()["id"]),
        **subscription,
        **await asked(platform, question["id"]),
        **await judged(platform, drafted.json()["id"]),
    }


async def judged(platform: Platform, run_id: str) -> dict[str, str]:
    """A gate, a freeze, a word on a run that is over, and a recommendation."""
    quality = "/api/v1/agents/quality"
    word = {"run": run_id, "verdict": "rejected"}
    assert (await platform.author.post(f"{quality}/feedback", json=word)).status_code == 201
    wanted = {"metric": "success_rate", "comparator": ">=", "threshold": 0.5, "severity": "warn"}
    gate = await platform.admin.post(f"{quality}/gates", json=wanted)
    frozen = {"scope": "agent", "target": "drafter", "reason": "an audit"}
    freeze = await platform.admin.post(f"{quality}/freezes", json=frozen)
    organization = OrgId((await platform.admin.get("/api/v1/me")).json()["organization"])
    made = Recommendation(
        RecommendationId(new("rec")), Kind.PROMPT, Scope.ROLE, "tests", "Look.", {}, Standing.OPEN, now()
    )
    async with platform.held.parts.doors.open(organization) as work:
        assert await recommendations.recommend(work, made, now())
    return {"gate_id": gate.json()["id"], "freeze_id": freeze.json()["id"], "recommendation_id": made.id}


async def read(platform: Platform, run_id: str) -> str:
    """The digest of something that a run made, once it is kept."""
    async with asyncio.timeout(30):
        while True:
            found = await platform.author.get("/api/v1/agents/evidence/artifacts", params={"run": run_id})
            if found.json()["items"]:
                digest: str = found.json()["items"][0]["digest"]
                return digest
            await asyncio.sleep(0.05)


async def told(platform: Platform) -> dict[str, str]:
    """A subscription whose receiver is not there, and what it is owed."""
    body = {"name": "victim", "url": "http://127.0.0.1:9/", "facts": ["KeyCreated"], "secret": "secret://journeys"}
    made = await platform.admin.post("/api/v1/subscriptions", json=body)
    assert made.status_code == 201, made.text
    await platform.admin.post("/api/v1/keys", json={"person": "victim"})
    path = f"/api/v1/subscriptions/{made.json()['id']}/deliveries"
    async with asyncio.timeout(30):
        while not (owed := (await platform.admin.get(path)).json()["items"]) or not owed[0]["tries"]:
            await asyncio.sleep(0.05)
    assert (await platform.admin.patch(path.rpartition("/")[0], json={"enabled": False})).status_code == 200
    return {"subscription_id": made.json()["id"], "delivery_id": owed[0]["id"]}


async def examined(platform: Platform) -> dict[str, str]:
    """A data set, and an eval over it that is over."""
    path = "/api/v1/agents/quality"
    row = '{"id": "a", "input": {"task_description": "go"}, "expected": "x", "scorer": "exact"}'
    await platform.author.post(f"{path}/datasets", json={"name": "victims", "content": row})
    wanted = {"dataset": "victims", "agent": "tester"}
    started = await platform.author.post(f"{path}/offline-evals/run", json=wanted)
    assert started.status_code == 202, started.text
    async with asyncio.timeout(30):
        while (await platform.author.get(started.headers["location"])).json()["status"] == "running":
            await asyncio.sleep(0.05)
    return {"dataset": "victims", "eval_id": started.json()["id"]}


async def asked(platform: Platform, approval_id: str) -> dict[str, str]:
    """The thread about an approval, and a message that was sent about it, once all of them were."""
    async with asyncio.timeout(30):
        while not (sent := await about(platform, "/api/v1/notifications?state=sent", approval_id)):
            await asyncio.sleep(0.05)
        while await about(platform, "/api/v1/notifications?state=pending", approval_id):
            await asyncio.sleep(0.05)
    (thread,) = await about(platform, "/api/v1/inbox/threads?state=open", approval_id)
    return {"thread_id": thread["id"], "notification_id": sent[0]["id"]}


async def about(platform: Platform, path: str, approval_id: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = (await platform.admin.get(f"{path}&about={approval_id}")).json()["items"]
    return found


DRAFTER = {"metadata": {"name": "drafter", "category": "tests", "owner": "testers"}}


async def test_every_route_with_a_strangers_key_finds_nothing(platform: Platform) -> None:
    ids = await victim(platform)
    organization = OrgId((await platform.admin.get("/api/v1/me")).json()["organization"])
    before = await everything(platform, organization)
    routes = [route for router in ROUTERS for route in router.routes if isinstance(route, APIRoute)]
    asked = 0
    async with platform.acting(await platform.stranger()) as stranger:
        for route in routes:
            (method,) = route.methods
            if route.path in OF_EVERYBODY | OF_A_LINK | OF_THE_PLATFORM or "{" not in route.path:
                continue
            body = BODIES.get(f"{method} {route.path}", {})
            answer = await stranger.request(method, route.path.format(**ids), json=None if method == "GET" else body)
            assert answer.status_code == 404, f"{method} {route.path}: {answer.status_code} {answer.text}"
            asked += 1
        for route in routes:
            if route.methods == {"GET"} and "{" not in route.path and route.path not in OF_EVERYBODY | OF_A_SIGN_IN:
                answer = await stranger.get(route.path, params={"status": "all", "q": "go done tester"})
                assert answer.status_code == 200, answer.text
                assert not [one for one in ids.values() if len(one) > 20 and one in answer.text], route.path
        to_a_run = {"title": "t", "text": "hello", "about": ids["run_id"]}
        assert (await stranger.post("/api/v1/inbox/threads", json=to_a_run)).status_code == 404
        given = {"agent": "tester", "input": {"task_description": "go"}}
        assert (await stranger.post("/api/v1/runs", json=given)).status_code == 404
        foreign = {"model": "agent:tester", "max_tokens": 5, "messages": [{"role": "user", "content": "go"}]}
        for door in ("/v1/chat/completions", "/v1/messages"):
            assert (await stranger.post(door, json=foreign)).status_code == 404
        quality = "/api/v1/agents/quality"
        examine = {"dataset": "victims", "agent": "tester"}
        assert (await stranger.post(f"{quality}/offline-evals/run", json=examine)).status_code == 404
        wanted = {"agent_id": "tester", "environment": "production"}
        assert (await stranger.post("/api/v1/agents/deployments", json=wanted)).status_code == 404
        assert (await stranger.post("/api/v1/keys", json={"person": "victim"})).status_code == 404
        for of in ({"run": ids["run_id"]}, {"draft": ids["draft_id"]}):
            word = {**of, "verdict": "accepted"}
            assert (await stranger.post("/api/v1/agents/quality/feedback", json=word)).status_code == 404
        gated = {"scope": "deployment", "target": ids["deployment_id"], "metric": "runs", "comparator": ">="}
        answer = await stranger.post("/api/v1/agents/quality/gates", json=gated | {"threshold": 1})
        assert answer.status_code == 404, answer.text
        theirs_frozen = {"scope": "agent", "target": "drafter", "reason": "mine"}
        assert (await stranger.post("/api/v1/agents/quality/freezes", json=theirs_frozen)).status_code == 404
        named = {"approval": ids["approval_id"], "to": ["role:admin"]}
        assert (await stranger.post("/api/v1/approvals/reroute", json=named)).status_code == 404
        everything_of = {"deployment": ids["deployment_id"], "to": ["role:admin"]}
        assert (await stranger.post("/api/v1/approvals/reroute", json=everything_of)).json()["rerouted"] == 0
        theirs = {"deployment_id": ids["deployment_id"]}
        for looked in ("decide", "simulate", "backtest"):
            more = {"skill": "pay"} if looked == "decide" else {"proposed": {}}
            answer = await stranger.post(f"/api/v1/agents/policies/{looked}", json=theirs | more)
            assert answer.status_code == 404, answer.text
        question = {"question": f"what did tester do, who approved {ids['approval_id']}, what about {ids['run_id']}"}
        answer = await stranger.post("/api/v1/agents/evidence/ask", json=question)
        assert (answer.json()["answer"], answer.json()["searched"]["entries"]) == ("unknown", 0)
    assert asked > 20
    assert await everything(platform, organization) == before


async def everything(platform: Platform, organization: OrgId) -> dict[str, Any]:
    """What an attack would have changed."""
    async with platform.held.parts.doors.open(organization) as work:
        found = {}
        controls = ("deployments", "revisions", "policies", "stops", "approvals", "versions")
        rollouts = ("canaries", "rollbacks", "shadows", "shadow_runs")
        tables = ("people", "keys", *controls, *rollouts, "drafts", "triggers", *TOLD)
        for table in tables:
            rows = await work.all(text(f"SELECT * FROM {table} ORDER BY 1, 2, 3"))
            found[table] = [tuple(row) for row in rows]
        return found

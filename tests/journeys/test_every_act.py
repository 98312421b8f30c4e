"""Whatever a caller changes is a fact: every route that is not only read leaves one, or stands here with the reason."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Any

import httpx
from fastapi.routing import APIRoute
from sqlalchemy import text

from agentos.apps.api.app import ROUTERS
from agentos.apps.facts import every_fact
from agentos.kernel.ids import OrgId
from tests.journeys.conftest import Platform, document
from tests.journeys.test_isolation import victim
from tests.runtime.runs.harness import DONE

AGENTS, DEPLOYMENT = "/api/v1/agents", "/api/v1/agents/deployments/{deployment_id}"
QUALITY, RUN = "/api/v1/agents/quality", "/api/v1/runs/{run_id}"

LEAVES = {
    "POST /api/v1/sessions": "SignedIn",
    "DELETE /api/v1/sessions/current": "SignedOut",
    "PUT /api/v1/people/{handle}/password": "SignedOut",
    "POST /api/v1/people": "PersonAdded",
    "PATCH /api/v1/people/{handle}": "PersonChanged",
    "POST /api/v1/keys": "KeyCreated",
    "POST /api/v1/keys/{key_id}/rotate": "KeyCreated",
    "POST /api/v1/keys/{key_id}/revoke": "KeyRevoked",
    "POST /api/v1/inbox/threads": "ThreadOpened",
    "POST /api/v1/inbox/threads/{thread_id}/messages": "MessageReceived",
    "PATCH /api/v1/people/{handle}/addresses": "AddressesChanged",
    "PUT /api/v1/inbox/slack/workspace": "WorkspaceConnected",
    "DELETE /api/v1/inbox/slack/workspace": "WorkspaceDisconnected",
    "POST /api/v1/inbox/slack": "AnswerGiven",
    "POST /api/v1/agents/triggers": "TriggerAdded",
    "PATCH /api/v1/agents/triggers/{trigger_id}": "TriggerChanged",
    "DELETE /api/v1/agents/triggers/{trigger_id}": "TriggerRemoved",
    "POST /api/v1/events": "TriggerFired",
    "POST /api/v1/hooks/{address}": "TriggerFired",
    "POST /api/v1/stops": "StopOrdered",
    "DELETE /api/v1/stops/{stop_id}": "StopLifted",
    "PUT /api/v1/agents/policies/denylist": "StopOrdered",
    f"POST {AGENTS}": "AgentApplied",
    f"POST {AGENTS}/deployments": "DeploymentCreated",
    f"PATCH {DEPLOYMENT}": "TierChanged",
    f"POST {DEPLOYMENT}/retire": "DeploymentRetired",
    f"PUT {DEPLOYMENT}/policy": "PolicyChanged",
    f"POST {DEPLOYMENT}/promote": "VersionPromoted",
    f"POST {DEPLOYMENT}/canary": "CanaryStarted",
    f"DELETE {DEPLOYMENT}/canary": "CanaryEnded",
    f"POST {DEPLOYMENT}/rollback": "VersionRolledBack",
    f"POST {DEPLOYMENT}/pause": "DeploymentPaused",
    f"POST {DEPLOYMENT}/resume": "DeploymentResumed",
    f"POST {DEPLOYMENT}/shadow": "ShadowStarted",
    f"DELETE {DEPLOYMENT}/shadow": "ShadowEnded",
    "PUT /api/v1/agents/policies/organization": "PolicyChanged",
    f"POST {QUALITY}/datasets": "DatasetAdded",
    f"POST {QUALITY}/offline-evals/run": "EvalStarted",
    f"POST {QUALITY}/offline-evals/{{eval_id}}/cancel": "EvalCancelled",
    f"POST {QUALITY}/offline-evals/{{eval_id}}/resume": "EvalStarted",
    f"POST {QUALITY}/feedback": "FeedbackGiven",
    f"POST {QUALITY}/gates": "GateAdded",
    f"DELETE {QUALITY}/gates/{{gate_id}}": "GateRemoved",
    f"POST {QUALITY}/freezes": "PromotionFrozen",
    f"POST {QUALITY}/freezes/{{freeze_id}}/lift": "PromotionUnfrozen",
    f"POST {QUALITY}/recommendations": "RecommendationOpened",
    f"POST {QUALITY}/recommendations/{{recommendation_id}}": "RecommendationSettled",
    "POST /api/v1/agents/evidence/ask": "ModelAsked",
    "PUT /api/v1/approvals/routing": "RoutingChanged",
    "POST /api/v1/approvals/reroute": "ApprovalRerouted",
    "POST /api/v1/approvals/links/{token}": "ApprovalDecided",
    "POST /api/v1/approvals/{approval_id}/approve": "ApprovalDecided",
    "POST /api/v1/approvals/{approval_id}/deny": "ApprovalDecided",
    "PUT /api/v1/budgets": "BudgetChanged",
    "PUT /api/v1/budgets/prices": "PriceChanged",
    "PUT /api/v1/privacy/rules": "PrivacyRulesChanged",
    "POST /api/v1/runs": "RunAccepted",
    f"POST {RUN}/cancel": "RunOrdered",
    f"POST {RUN}/pause": "RunOrdered",
    f"POST {RUN}/resume": "RunOrdered",
    f"POST {RUN}/effects/{{step}}/settle": "EffectSettled",
    "POST /api/v1/drafts/{draft_id}/submit": "DraftSubmitted",
    "POST /api/v1/drafts/{draft_id}/discard": "DraftDiscarded",
    "POST /v1/chat/completions": "ModelAsked",
    "POST /v1/messages": "ModelAsked",
    "POST /api/v1/models/test": "ModelAsked",
    f"POST {RUN}/replay": "RunReplayed",
    "POST /api/v1/replays/what-if": "ReplayAsked",
    "POST /api/v1/audit/verify": "LedgerVerified",
    "POST /api/v1/subscriptions": "SubscriptionAdded",
    "PATCH /api/v1/subscriptions/{subscription_id}": "SubscriptionChanged",
    "DELETE /api/v1/subscriptions/{subscription_id}": "SubscriptionRemoved",
    "POST /api/v1/subscriptions/{subscription_id}/deliveries/{delivery_id}/retry": "DeliveryRetried",
    "POST /api/v1/notifications/{notification_id}/retry": "NotificationRetried",
}

# Routes that leave nothing, and why.
NOTHING = {
    "POST /api/v1/agents/triggers/simulate": "says when a schedule would fire",
    "POST /api/v1/agents/policies/decide": "says what policy would answer",
    "POST /api/v1/agents/policies/simulate": "says what policy would answer",
    "POST /api/v1/agents/policies/backtest": "says what policy would have answered",
    "POST /api/v1/subscriptions/{subscription_id}/test": "sends one event of its own, and keeps nothing",
}


def routes() -> Iterator[tuple[str, APIRoute]]:
    for router in ROUTERS:
        for route in router.routes:
            if isinstance(route, APIRoute):
                for method in route.methods - {"GET", "HEAD"}:
                    yield f"{method} {route.path}", route


def test_every_route_that_changes_something_leaves_a_fact_or_stands_here_with_the_reason() -> None:
    assert {name for name, _ in routes()} == {*LEAVES, *NOTHING}
    assert {*LEAVES.values()} <= {kind.__name__ for kind in every_fact()}


async def test_what_is_asked_of_every_route_is_a_fact_afterwards(platform: Platform) -> None:
    done: set[str] = set()

    async def keep(answer: httpx.Response) -> None:
        if answer.status_code < 400:
            path = answer.request.url.path
            done.update(
                name
                for name, route in routes()
                if name.startswith(f"{answer.request.method} ") and route.path_regex.match(path)
            )

    for client in (platform.admin, platform.author, platform.approver):
        client.event_hooks["response"].append(keep)
    ids = await victim(platform)
    ids["over"] = await over(platform)
    ids["other"] = await another_version(platform)
    refused = []
    for method, path, body in acts(ids):
        answer = await platform.admin.request(method, path.format(**ids), json=body)
        if answer.status_code >= 400:
            refused.append(f"{method} {path}: {answer.text}")
    assert refused == []
    organization = OrgId((await platform.admin.get("/api/v1/me")).json()["organization"])
    async with platform.held.parts.doors.open(organization) as work:
        told = {row.name for row in await work.all(text("SELECT DISTINCT name FROM outbox"))}
    assert {name: LEAVES[name] for name in done - NOTHING.keys() if LEAVES[name] not in told} == {}
    assert len(done & LEAVES.keys()) > 50


async def over(platform: Platform) -> str:
    """A run that is over."""
    found = (await platform.admin.get("/api/v1/runs", params={"status": "completed"})).json()["items"]
    return str(found[0]["id"])


async def another_version(platform: Platform) -> str:
    """A version of the agent that does not serve."""
    wanted = {"documents": [document([DONE, DONE], ["look"], tier="L3")]}
    answer = await platform.author.post("/api/v1/agents", json=wanted)
    assert answer.status_code == 200, answer.text
    return str(answer.json()["applied"][0]["version"])


def acts(ids: dict[str, str]) -> Iterator[tuple[str, str, Any]]:
    """Requests that change something, in an order in which each can."""
    yield "PUT", "/api/v1/people/{handle}/password", {"password": "correct horse battery"}
    yield "PATCH", "/api/v1/people/{handle}", {"role": "operator"}
    yield "PATCH", "/api/v1/people/{handle}/addresses", {"email": "victim@example.com"}
    yield "POST", "/api/v1/keys/{key_id}/rotate", {}
    yield "POST", "/api/v1/keys/{key_id}/revoke", {}
    yield "POST", "/api/v1/inbox/threads", {"title": "t", "text": "hello"}
    yield "POST", "/api/v1/inbox/threads/{thread_id}/messages", {"text": "hello"}
    secrets = dict.fromkeys(("signing_secret", "token"), "secret://journeys")
    yield "PUT", "/api/v1/inbox/slack/workspace", {"team": f"T{uuid.uuid4().hex[:9].upper()}", **secrets}
    yield "DELETE", "/api/v1/inbox/slack/workspace", None
    yield "PATCH", "/api/v1/agents/triggers/{trigger_id}", {"is_enabled": False}
    yield "DELETE", "/api/v1/agents/triggers/{trigger_id}", None
    yield "POST", "/api/v1/approvals/reroute", {"approval": ids["approval_id"], "to": ["role:admin"]}
    yield "POST", f"{RUN}/pause", {}
    yield "POST", f"{RUN}/cancel", {}
    yield "DELETE", "/api/v1/stops/{stop_id}", None
    yield "PUT", "/api/v1/agents/policies/denylist", {"domains": ["example.com"]}
    yield "PUT", "/api/v1/agents/policies/denylist", {}
    yield "PUT", "/api/v1/agents/policies/organization", {"policy": {"deny": ["nothing"]}}
    yield "PUT", f"{DEPLOYMENT}/policy", {"policy": {"deny": ["nothing"]}}
    yield "PUT", "/api/v1/budgets", {"agent": "tester", "period": "day", "steps": 1000}
    yield "PUT", "/api/v1/budgets/prices", {"provider": "stub", "model": "x", "input": "1", "output": "1"}
    yield "PUT", "/api/v1/privacy/rules", {}
    yield "PUT", "/api/v1/approvals/routing", {}
    yield "POST", "/api/v1/drafts/{draft_id}/discard", {}
    yield "DELETE", f"{QUALITY}/gates/{{gate_id}}", None
    yield "POST", f"{QUALITY}/freezes/{{freeze_id}}/lift", {"reason": "over"}
    yield "POST", f"{QUALITY}/recommendations/{{recommendation_id}}", {"standing": "accepted", "reason": "mine"}
    yield "POST", "/api/v1/models/test", {"provider": "stub", "model": ""}
    yield "POST", "/v1/chat/completions", {"model": "stub", "messages": [{"role": "user", "content": "go"}]}
    yield "POST", "/v1/messages", {"model": "stub", "max_tokens": 9, "messages": [{"role": "user", "content": "go"}]}
    yield "POST", "/api/v1/runs/{over}/replay", {}
    yield "POST", "/api/v1/audit/verify", {}
    yield "DELETE", "/api/v1/subscriptions/{subscription_id}", None
    yield "PATCH", DEPLOYMENT, {"tier": "L1"}
    yield "POST", f"{DEPLOYMENT}/canary", {"version": ids["other"], "percent": 10}
    yield "DELETE", f"{DEPLOYMENT}/canary", None
    yield "POST", f"{DEPLOYMENT}/shadow", {"version": ids["other"], "percent": 10}
    yield "DELETE", f"{DEPLOYMENT}/shadow", None
    yield "POST", f"{DEPLOYMENT}/promote", {"version": ids["other"], "force": True, "reason": "a test"}
    yield "POST", f"{DEPLOYMENT}/rollback", {"version": ids["version"], "reason": "a test"}
    yield "POST", f"{DEPLOYMENT}/pause", {}
    yield "POST", f"{DEPLOYMENT}/resume", {}
    yield "POST", f"{DEPLOYMENT}/retire", {}
    yield "POST", "/api/v1/agents/deployments", {"agent_id": "tester", "environment": "elsewhere"}

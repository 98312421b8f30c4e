"""What people do with runs, over HTTP, on the real thing."""

from __future__ import annotations

import asyncio
import json

from tests.journeys.conftest import Platform, document
from tests.runtime.runs.harness import DONE, calls


async def test_deploy_run_approve_and_roll_back(platform: Platform) -> None:
    first = await platform.apply([calls(("pay", 1)), DONE], ["pay"], tier="L3")
    run = await platform.run()
    assert run["version"] == first["version"]
    question = await platform.question(run["id"])
    assert question["arguments"] == {"n": 1}
    why = (await platform.author.get(f"/api/v1/runs/{run['id']}/why")).json()
    assert why["reason"] == "approval"
    assert question["id"] in why["next"]
    refused = await platform.author.post(f"/api/v1/approvals/{question['id']}/approve", json={})
    assert (refused.status_code, refused.json()["code"]) == (403, "not_allowed")
    answer = await platform.approver.post(f"/api/v1/approvals/{question['id']}/approve", json={"note": "ok"})
    assert answer.json()["status"] == "approved"
    again = await platform.approver.post(f"/api/v1/approvals/{question['id']}/approve", json={})
    assert (again.status_code, again.json()["code"]) == (409, "approval_decided")
    assert (await platform.until(run["id"], "completed"))["output"] == "done"

    second = await platform.apply([DONE], ["pay"], tier="L3")
    deployment = f"/api/v1/agents/deployments/{first['deployment_id']}"
    assert (await platform.run())["version"] == first["version"]
    shown = await platform.author.get(deployment)
    promoted = await platform.author.post(
        f"{deployment}/promote", json={"version": second["version"]}, headers={"If-Match": shown.headers["etag"]}
    )
    assert promoted.status_code == 200, promoted.text
    stale = await platform.author.post(f"{deployment}/rollback", json={}, headers={"If-Match": shown.headers["etag"]})
    assert (stale.status_code, stale.json()["code"]) == (412, "precondition_failed")
    assert (await platform.run())["version"] == second["version"]
    assert (await platform.author.post(f"{deployment}/rollback", json={})).status_code == 200
    back = await platform.run()
    assert back["version"] == first["version"]
    await platform.question(back["id"])
    assert platform.world.count("pay") == 1


async def test_a_parked_run_finishes_on_its_own_version_after_a_promotion(platform: Platform) -> None:
    first = await platform.apply([calls(("pay", 1)), {"text": "one"}], ["pay"], tier="L3")
    run = await platform.run()
    question = await platform.question(run["id"])
    second = await platform.apply([{"text": "two"}], [], tier="L3")
    await platform.author.post(
        f"/api/v1/agents/deployments/{first['deployment_id']}/promote", json={"version": second["version"]}
    )
    await platform.approver.post(f"/api/v1/approvals/{question['id']}/approve", json={})
    assert (await platform.until(run["id"], "completed"))["output"] == "one"


async def test_the_same_idempotency_key_gives_the_same_run(platform: Platform) -> None:
    await platform.apply([DONE], [])
    twins = await asyncio.gather(*(platform.run(**{"Idempotency-Key": "k1"}) for _ in range(5)))
    assert len({run["id"] for run in twins}) == 1
    body = {"agent": "tester", "input": {"task_description": "other"}}
    reused = await platform.author.post("/api/v1/runs", json=body, headers={"Idempotency-Key": "k1"})
    assert (reused.status_code, reused.json()["code"]) == (422, "idempotency_key_reused")


async def test_a_stream_of_events_goes_on_after_the_last_one_that_was_seen(platform: Platform) -> None:
    await platform.apply([calls(("look", 1)), calls(("note", 2)), DONE], ["look", "note"])
    run = await platform.run()
    await platform.until(run["id"], "completed")
    path = f"/api/v1/runs/{run['id']}/events"

    async def events(last: str) -> list[tuple[str, str]]:
        found, event = [], {}
        async with platform.author.stream("GET", path, headers={"Last-Event-ID": last}) as stream:
            async for line in stream.aiter_lines():
                name, _, value = line.partition(":")
                event[name] = value.strip()
                if not line:
                    json.loads(event["data"])
                    found.append((event["event"], event.get("id", "")))
                    event = {}
        return found

    whole = await events("")
    assert [name for name, _ in whole] == ["step"] * 6 + ["status"]
    assert await events("4") == whole[4:]


async def test_orders_are_obeyed_over_http(platform: Platform) -> None:
    await platform.apply([calls(("pay", 1)), DONE], ["pay"], tier="L3")
    run = await platform.run()
    await platform.question(run["id"])
    cancelled = await platform.author.post(f"/api/v1/runs/{run['id']}/cancel", json={})
    assert cancelled.status_code == 200
    await platform.until(run["id"], "cancelled")
    assert (await platform.approver.get("/api/v1/approvals", params={"run": run["id"]})).json()["items"] == []
    late = await platform.author.post(f"/api/v1/runs/{run['id']}/pause", json={})
    assert (late.status_code, late.json()["code"]) == (409, "run_ended")


async def test_bad_requests_each_get_their_own_error(platform: Platform) -> None:
    await platform.apply([DONE], [])
    author, wrong = platform.author, []

    async def refused(expected: tuple[int, str], answer: object) -> None:
        got = (answer.status_code, answer.json()["code"])  # type: ignore[attr-defined]
        if got != expected or answer.headers["content-type"] != "application/problem+json":  # type: ignore[attr-defined]
            wrong.append((expected, got))

    task = {"task_description": "x" * 5001}
    await refused((422, "input_refused"), await author.post("/api/v1/runs", json={"agent": "tester", "input": task}))
    await refused((404, "agent_unknown"), await author.post("/api/v1/runs", json={"agent": "nobody", "input": {}}))
    await refused((422, "malformed_request"), await author.post("/api/v1/runs", json={"agnet": "tester"}))
    await refused((422, "malformed_request"), await author.post("/api/v1/runs", content=b"{"))
    await refused((413, "body_too_large"), await author.post("/api/v1/runs", content=b"x" * (1024 * 1024 + 1)))
    await refused((401, "unauthorized"), await platform.nobody.get("/api/v1/runs"))
    await refused((401, "unauthorized"), await author.get("/api/v1/runs", headers={"Authorization": "Bearer aos_x"}))
    await refused((404, "run_unknown"), await author.get("/api/v1/runs/run_x"))
    await refused((404, "route_unknown"), await author.get("/api/v1/nothing"))
    await refused((422, "bad_cursor"), await author.get("/api/v1/runs", params={"cursor": "!!"}))
    manifest = document([DONE], ["look"]) | {"extra": 1}
    await refused((422, "manifest_invalid"), await author.post("/api/v1/agents", json={"documents": [manifest]}))
    unknown = document([DONE], ["nothing"])
    await refused((422, "manifest_invalid"), await author.post("/api/v1/agents", json={"documents": [unknown]}))
    assert wrong == []


async def test_another_organization_finds_nothing(platform: Platform) -> None:
    from agentos.apps.bootstrap import give_key
    from agentos.intake.identity import service as identity
    from agentos.intake.identity.model import Role
    from agentos.kernel.ids import OrgId

    applied = await platform.apply([calls(("pay", 1)), DONE], ["pay"], tier="L3")
    run = await platform.run()
    question = await platform.question(run["id"])
    other = OrgId("o_" + run["id"][-12:])
    await identity.found_organization(platform.held.parts.database, other, name="Other")
    async with platform.held.parts.doors.open(other) as work:
        key = await give_key(work, "stranger", Role.ADMIN)
    stranger = {"Authorization": f"Bearer {key}"}
    paths = [
        ("GET", f"/api/v1/runs/{run['id']}"),
        ("GET", f"/api/v1/runs/{run['id']}/journal"),
        ("GET", f"/api/v1/runs/{run['id']}/why"),
        ("POST", f"/api/v1/runs/{run['id']}/cancel"),
        ("GET", f"/api/v1/approvals/{question['id']}"),
        ("POST", f"/api/v1/approvals/{question['id']}/approve"),
        ("GET", f"/api/v1/agents/deployments/{applied['deployment_id']}"),
        ("POST", f"/api/v1/agents/deployments/{applied['deployment_id']}/pause"),
        ("GET", "/api/v1/agents/tester"),
        ("GET", "/api/v1/agents/tester/health"),
    ]
    for method, path in paths:
        answer = await platform.nobody.request(method, path, headers=stranger, json={} if method == "POST" else None)
        assert answer.status_code == 404, (method, path, answer.text)
    assert (await platform.nobody.get("/api/v1/runs", headers=stranger)).json()["items"] == []
    assert (await platform.author.get(f"/api/v1/runs/{run['id']}")).json()["status"] == "waiting_approval"


async def test_health_and_metrics_are_measured(platform: Platform) -> None:
    await platform.apply([calls(("pay", 1)), DONE], ["pay"], tier="L3")
    run = await platform.run()
    await platform.question(run["id"])
    assert (await platform.nobody.get("/health")).json()["status"] == "healthy"
    async with asyncio.timeout(20):
        while not (ready := (await platform.nobody.get("/health/ready"))).json()["ready"]:
            await asyncio.sleep(0.1)
    assert ready.json()["checks"]["database"] == {"status": "ok", "role": "agentos_app"}
    health = (await platform.author.get("/api/v1/agents/tester/health")).json()
    assert (health["status"], health["success_ratio"]) == ("unknown", "unknown")
    page = (await platform.nobody.get("/metrics")).text
    for name in ("agentos_approvals_pending", "drovi_agent_approval_backlog", "aos_llm_calls_total"):
        assert f"\n{name}" in page
    assert 'provider="stub"' in page


async def test_the_request_id_is_kept_or_made(platform: Platform) -> None:
    answer = await platform.nobody.get("/health", headers={"X-Request-ID": "mine-1"})
    assert answer.headers["x-request-id"] == "mine-1"
    made = await platform.nobody.get("/health", headers={"X-Request-ID": "bad id"})
    assert made.headers["x-request-id"].startswith("req_")

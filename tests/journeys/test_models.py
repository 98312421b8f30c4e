"""Several models behind one agent, over HTTP and the command line: fallback, health, and which model would serve."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from sqlalchemy import text

from agentos.kernel.ids import OrgId
from tests.fakes.models import KEY, FakeModels
from tests.fakes.replies import Fault, Reply
from tests.journeys.conftest import Platform, running
from tests.journeys.test_command_line import Shell, shell
from tests.runtime.runs.harness import DONE, calls

LARGE, SMALL = "claude-sonnet-4-5", "claude-haiku-4-5"
CHAIN = {"provider": "claude", "name": LARGE, "max_tokens": 100, "fallback": [{"provider": "claude", "name": SMALL}]}


async def adapters(platform: Platform) -> dict[str, Any]:
    answer = await platform.nobody.get("/health/adapters")
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def named(found: dict[str, Any], name: str) -> dict[str, Any]:
    return next(one for one in found["adapters"] if one["name"] == name)


async def test_a_run_falls_back_and_health_tells_how_the_provider_did(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with FakeModels(replies=[Reply("from the smaller one")]) as fake:
        monkeypatch.setenv("ANTHROPIC_API_KEY", KEY)
        monkeypatch.setenv("ANTHROPIC_BASE_URL", fake.url)
        fake.fail(Fault.OVERLOADED)
        async with running(database_url, monkeypatch) as platform:
            await platform.apply([], [], model=CHAIN)
            run = await platform.run()
            assert (await platform.until(run["id"], "completed"))["output"] == "from the smaller one"
            steps = (await platform.author.get(f"/api/v1/runs/{run['id']}/journal")).json()["items"]
            (row,) = [one for one in steps if one["kind"] == "model"]
            tried = [(one["model"], one["outcome"]) for one in row["meta"]["attempts"]]
            assert [model for model, _ in tried] == [LARGE, SMALL]
            assert (tried[0][1] != "ok", tried[1][1]) == (True, "ok")
            assert [one["model"] for one in fake.requests] == [LARGE, SMALL]
            async with asyncio.timeout(10):
                while (claude := named(await adapters(platform), "claude"))["state"] == "unknown":
                    await asyncio.sleep(0.1)
            assert claude["state"] == "live"
            listed = (await platform.author.get("/api/v1/models")).json()["items"]
            assert {one["model"] for one in listed} == {LARGE, SMALL}
            assert all(one["price"] != "unknown" and one["configured"] for one in listed)


async def test_with_live_adapters_disabled_health_shows_the_stub_only(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", KEY)
    monkeypatch.setenv("DISABLE_LIVE_ADAPTERS", "true")
    async with running(database_url, monkeypatch) as platform:
        found = await adapters(platform)
        ready = (await platform.nobody.get("/health/ready")).json()
    assert ready["models"].startswith("stub only")
    assert [(one["name"], one["state"]) for one in found["adapters"]] == [("stub", "stub")]
    assert ("claude", "disabled") in [(one["name"], one["state"]) for one in found["not_asked"]]
    assert found["says"].startswith("stub only")
    assert found["switches"]["DISABLE_LIVE_ADAPTERS"] is True


async def test_a_forced_stub_answers_a_run_and_every_page_says_so(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_STUB_ADAPTER", "true")
    async with running(database_url, monkeypatch) as platform:
        stand_in = {"routing": {"stand_in": {"script": [calls(("note", 1)), DONE]}}}
        applied = await platform.apply([], ["note"], model=CHAIN | stand_in)
        run = await platform.run()
        await platform.until(run["id"], "completed")
        assert platform.world.count("note") == 0
        assert (await adapters(platform))["says"].startswith("stub:")
        health = (await platform.author.get("/api/v1/agents/tester/health")).json()
        assert health["models"].startswith("stub:")
        path = f"/api/v1/models/route/{applied['deployment_id']}"
        plan = (await platform.author.get(path)).json()
        steps = (await platform.author.get(f"/api/v1/runs/{run['id']}/journal")).json()["items"]
    assert (plan["would_ask"], plan["acts_at_most_at"]) == ("stub", "L1")
    assert {one["meta"]["provider"] for one in steps if one["kind"] == "model"} == {"stub"}


async def test_a_policy_with_a_fallback_that_cannot_be_is_refused_at_its_place(platform: Platform) -> None:
    for wrong, where in (
        ({"fallback": [{"provider": "nobody", "name": "x"}]}, "spec.model.fallback[0].provider"),
        ({"fallback": [{"provider": "claude"}]}, "spec.model.fallback[0].name"),
        ({"routing": {"retries": 3}}, "spec.model.routing.retries"),
        ({"mode": "cheapest"}, "spec.model.mode"),
    ):
        document = {
            "apiVersion": "agentos/v1",
            "kind": "Agent",
            "metadata": {"name": "tester", "category": "tests", "owner": "testers"},
            "spec": {"instructions": "x", "tier": "L1", "model": {"provider": "claude", "name": LARGE} | wrong},
        }
        answer = await platform.author.post("/api/v1/agents", json={"documents": [document]})
        assert answer.status_code == 422
        assert answer.json()["problems"][0]["where"].endswith(where)


async def test_the_command_line_shows_adapters_models_and_routes(shell: Shell) -> None:
    model = CHAIN | {"fallback": [*CHAIN["fallback"], {"provider": "stub", "script": [DONE]}]}  # type: ignore[misc]
    applied = await shell.platform.apply([], [], model=model)
    found = await shell("adapters")
    assert [one["name"] for one in found["adapters"]] == ["stub", "vendor:*"]
    assert {"vendor:*": "unknown"}.items() <= {one["name"]: one["state"] for one in found["adapters"]}.items()
    assert {"claude": "not_configured"}.items() <= {one["name"]: one["state"] for one in found["not_asked"]}.items()
    assert {one["model"] for one in (await shell("models", "list"))["items"]} == {LARGE, SMALL, ""}
    told = await shell("models", "test", "stub")
    assert (told["answered"], told["by"]["provider"], told["cost"]) == (True, "stub", "0.00")
    body = {"provider": "claude", "model": LARGE}
    refused = (await shell.platform.author.post("/api/v1/models/test", json=body)).json()
    assert (refused["answered"], refused["code"]) == (False, "ERR_LLM_NOT_CONFIGURED")
    assert (await shell("models", "test", "nobody/x", code=2))["code"] == "model_policy_invalid"
    plan = await shell("models", "route", "--explain", "--deployment", applied["deployment_id"])
    assert [one["model"] for one in plan["models"]] == [f"claude/{LARGE}", f"claude/{SMALL}", "stub"]
    assert plan["would_ask"] == "stub"
    assert "not configured" in plan["models"][0]["but"]


async def test_a_viewer_sees_models_and_tests_none(platform: Platform) -> None:
    await platform.admin.post("/api/v1/people", json={"handle": "looker", "role": "viewer"})
    key = (await platform.admin.post("/api/v1/keys", json={"person": "looker"})).json()["secret"]
    async with platform.acting(key) as viewer:
        assert (await viewer.get("/api/v1/models")).status_code == 200
        refused = await viewer.post("/api/v1/models/test", json={"provider": "stub", "model": ""})
    assert (refused.status_code, refused.json()["code"]) == (403, "not_allowed")


async def test_a_model_of_a_denied_provider_is_not_tested(platform: Platform) -> None:
    entry = {"kind": "deny", "scope": "provider", "target": "stub"}
    assert (await platform.admin.post("/api/v1/stops", json=entry)).status_code == 201
    told = (await platform.admin.post("/api/v1/models/test", json={"provider": "stub", "model": ""})).json()
    assert (told["answered"], told["code"]) == (False, "asking_stopped")


@pytest.mark.parametrize("kind", ["pause", "kill"])
async def test_while_a_stop_holds_the_organization_no_model_is_tested(platform: Platform, kind: str) -> None:
    entry = {"kind": kind, "scope": "organization", "target": ""}
    answer = await platform.admin.post("/api/v1/stops", json=entry)
    assert answer.status_code == 201, answer.text
    told = (await platform.admin.post("/api/v1/models/test", json={"provider": "stub", "model": ""})).json()
    assert (told["answered"], told["code"]) == (False, "asking_stopped")


async def test_a_test_of_a_model_is_under_the_budgets_and_is_told_as_a_fact(platform: Platform) -> None:
    body = {"provider": "stub", "model": ""}
    assert (await platform.admin.post("/api/v1/models/test", json=body)).json()["answered"]
    organization = OrgId((await platform.admin.get("/api/v1/me")).json()["organization"])
    async with platform.held.parts.doors.open(organization) as work:
        (fact,) = await work.all(text("SELECT body FROM outbox WHERE name = 'ModelAsked'"))
    assert (fact.body["provider"], fact.body["outcome"]) == ("stub", "ok")
    cap = await platform.admin.put("/api/v1/budgets", json={"period": "day", "tokens": 1})
    assert cap.status_code == 200, cap.text
    platform.held.parts.books.read.clear()  # what a process has read holds for a second
    refused = (await platform.admin.post("/api/v1/models/test", json=body)).json()
    assert (refused["answered"], refused["code"]) == (False, "budget_exhausted")


__all__ = ["shell"]

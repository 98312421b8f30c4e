"""What did this version do between two moments, what did it cost, and when does its budget run out?"""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx

from agentos.evidence.usage.model import Dimension
from agentos.kernel.clock import now
from tests.journeys.conftest import Platform
from tests.journeys.test_command_line import Shell, shell
from tests.runtime.runs.harness import DONE, calls

__all__ = ["shell"]

EFFECTS = "/api/v1/agents/effects"
USAGE = "/api/v1/usage"


async def spent(client: httpx.AsyncClient, runs: int, **asked: Any) -> dict[str, Any]:
    """Usage, once so many runs are counted."""
    async with asyncio.timeout(30):
        while True:
            found: dict[str, Any] = (await client.get(USAGE, params=asked)).json()
            if (found["total"]["runs"] or 0) >= runs:
                return found
            await asyncio.sleep(0.05)


async def test_what_a_version_did_and_cost_is_told_by_version_model_skill_and_day(platform: Platform) -> None:
    price = {"provider": "stub", "model": "*", "input": "1.00", "output": "2.00"}
    assert (await platform.admin.put("/api/v1/budgets/prices", json=price)).status_code == 200
    script = [calls(("look", 1), ("note", 2)), DONE]
    old = await platform.apply(script, ["look", "note"])
    cap = {"agent": "tester", "period": "day", "money": "100"}
    assert (await platform.admin.put("/api/v1/budgets", json=cap)).status_code == 200
    first = await platform.until((await platform.run())["id"], "completed")
    between = now()
    new = await platform.apply(script, ["look", "note"], instructions="Otherwise.")
    path = f"/api/v1/agents/deployments/{old['deployment_id']}/promote"
    assert (await platform.author.post(path, json={"version": new["version"]})).status_code == 200
    second = await platform.until((await platform.run())["id"], "completed")
    assert first["version"] != second["version"]

    asked = {"deployment": old["deployment_id"], "from": (between - timedelta(hours=1)).isoformat()}
    before = (await platform.author.get(EFFECTS, params=asked | {"to": between.isoformat()})).json()["items"]
    assert [(one["run_id"], one["version"], one["status"]) for one in before] == [(first["id"], first["version"], "ok")]
    assert (before[0]["reversibility"], before[0]["idempotency_key"]) == ("reversible", f"{first['id']}.t0.c1")
    after = (await platform.author.get(EFFECTS, params={"version": second["version"]})).json()["items"]
    assert [one["run_id"] for one in after] == [second["id"]]
    for nothing in ({"skill": "look"}, {"status": "uncertain"}, {"agent": "other"}):
        assert (await platform.author.get(EFFECTS, params=nothing)).json()["items"] == []

    found = await spent(platform.author, 2, by=["version"])
    assert {one["version"] for one in found["items"]} == {first["version"], second["version"]}
    assert [(one["runs"], one["calls"], one["skill_calls"]) for one in found["items"]] == [(1, 2, 2)] * 2
    held = (await platform.author.get("/api/v1/budgets/usage")).json()["items"]
    (today,) = [one for one in held if (one["of"], one["period"]) == ("agent", "day")]
    assert found["total"]["money"] == today["money"], "usage and budgets agree"
    assert found["total"]["unknown"]["said"] == []
    (model,) = (await platform.author.get(USAGE, params={"by": "model"})).json()["items"]
    assert (model["model"].partition("/")[0], model["money"], model["runs"]) == ("stub", today["money"], None)
    skills = (await platform.author.get(USAGE, params={"by": ["skill", "day"], "first": "calls"})).json()["items"]
    assert {(one["skill"], one["skill_calls"], one["money"]) for one in skills} == {
        ("look", 2, None),
        ("note", 2, None),
    }

    figures = ("runs", "calls", "money", "skill_calls")
    for only, told in (
        ({"skill": "note"}, (None, None, None, 2)),
        ({"model": model["model"]}, (None, 4, today["money"], None)),
    ):
        narrowed = (await platform.author.get(USAGE, params={"by": "agent", **only})).json()
        for one in (*narrowed["items"], narrowed["total"]):
            assert tuple(one[name] for name in figures) == told, only

    (burn,) = (await platform.author.get(f"{USAGE}/burn")).json()["items"]
    assert (burn["agent"], burn["limit"], burn["used"], burn["reserved"]) == (
        "tester",
        "100.00",
        today["money"],
        "0.00",
    )
    assert burn["rates"]["hour"]["outlook"] == "lasts"
    assert float(burn["rates"]["hour"]["per_hour"]) > 0


async def test_a_direct_question_is_counted_as_one(platform: Platform) -> None:
    body = {"model": "stub", "max_tokens": 50, "messages": [{"role": "user", "content": "hello"}]}
    answered = await platform.author.post("/v1/messages", json=body)
    assert answered.status_code == 200, answered.text
    async with asyncio.timeout(30):
        while not (found := (await platform.author.get(USAGE, params={"by": ["source", "model"]})).json())["items"]:
            await asyncio.sleep(0.05)
    ((source, counted),) = [(one["source"], one["calls"]) for one in found["items"]]
    assert (source, counted) == ("ask", 1)
    assert (await platform.author.get(USAGE, params={"source": "run"})).json()["total"]["calls"] == 0


async def test_questions_that_have_no_answer_are_refused(platform: Platform) -> None:
    for asked, code in (
        ({"from": "2026-02-01", "to": "2026-01-01"}, "bad_usage_question"),
        ({"from": "2020-01-01", "to": "2026-01-01"}, "bad_usage_question"),
        ({"by": ["day", "day"]}, "bad_usage_question"),
        ({"by": "weather"}, "malformed_request"),
        ({"days": 0}, "malformed_request"),
    ):
        refused = await platform.author.get(USAGE, params=asked)
        assert (refused.status_code, refused.json()["code"]) == (422, code), asked
    for asked in ({"from": "14:02"}, {"from": "2026-01-01T00:00:00"}, {"status": "lost"}, {"cursor": "eA"}):
        assert (await platform.author.get(EFFECTS, params=asked)).status_code == 422, asked


async def test_the_command_line_tells_effects_cost_and_burn(shell: Shell) -> None:
    await shell.platform.apply([calls(("note", 1)), DONE], ["note"])
    await shell("budgets", "set", "month", "--money", "250.00", by="admin")
    run = await shell("run", "tester", "--input", "go", "--follow")
    assert run["status"] == "completed"
    await spent(shell.platform.author, 1)
    began = (datetime.now(UTC) - timedelta(minutes=5)).strftime("%Y-%m-%d %H:%M")
    listed = await shell("effects", "list", "--deployment", "tester", "--from", began, "--to", "now", "--zone", "UTC")
    assert [(one["skill"], one["status"]) for one in listed] == [("note", "ok")]
    assert await shell("effects", "list", "--to", "1h ago", "--status", "ok") == []
    top = await shell("cost", "top", "--by", "model", "--last", "7d")
    assert [one["calls"] for one in top["items"]] == [2]
    values = {"organization": None, "day": None, "source": "run", "agent": "tester"}
    for name, value in (values | {"version": run["version"], "model": None, "skill": "note"}).items():
        (line,) = (await shell.platform.author.get(USAGE, params={"by": name})).json()["items"]
        for told in (await shell("cost", "by", name), await shell("cost", "top", "--by", name)):
            assert told["items"] == [line], name
        assert value in (None, line[name]) and line[name], name
        assert line["skill_calls" if name == "skill" else "calls"] == (1 if name == "skill" else 2), name
    assert {one.value for one in Dimension} == {*values, "version", "model", "skill"}
    told = await shell("cost", "by", "agent", "skill", "--last", "1d")
    assert [(one["agent"], one["skill"], one["skill_calls"]) for one in told["items"]] == [("tester", "note", 1)]
    (burn,) = (await shell("cost", "burn"))["items"]
    assert (burn["of"], burn["period"], burn["limit"]) == ("organization", "month", "250.00")

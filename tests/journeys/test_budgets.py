"""An admin caps what an agent may spend; its runs stop there and say with which figures."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.journeys.conftest import Platform
from tests.journeys.test_command_line import Shell, shell
from tests.journeys.test_identity import facts
from tests.runtime.runs.harness import DONE, calls

__all__ = ["shell"]

BUDGETS = "/api/v1/budgets"


async def the_thread(platform: Platform, about: str) -> dict[str, Any]:
    async with asyncio.timeout(30):
        while True:
            found = (await platform.admin.get("/api/v1/inbox/threads", params={"about": about})).json()["items"]
            if found and found[0]["alerted_at"]:
                return dict(found[0])
            await asyncio.sleep(0.05)


async def test_a_run_ends_blocked_with_the_figures_of_the_cap_it_met(platform: Platform) -> None:
    await platform.apply([calls(("look", 1)), DONE], ["look"])
    price = {"provider": "stub", "model": "*", "input": "1.00", "output": "2.00"}
    assert (await platform.admin.put(f"{BUDGETS}/prices", json=price)).status_code == 200
    first = await platform.until((await platform.run())["id"], "completed", "blocked")
    assert first["status"] == "completed"

    used = (await platform.author.get(f"{BUDGETS}/usage")).json()
    (today,) = [one for one in used["items"] if (one["of"], one["period"]) == ("agent", "day")]
    assert used["currency"] == "USD"
    assert float(today["money"]) > 0
    assert (today["calls"], today["steps"], today["limits"]["money"]) == (2, 1, None)

    limit = {"agent": "tester", "period": "day", "money": f"{float(today['money']) + 0.001:.6f}"}
    capped = await platform.admin.put(BUDGETS, json=limit)
    assert capped.status_code == 200, capped.text
    run = await platform.until((await platform.run())["id"], "completed", "blocked")
    assert run["status"] == "blocked"
    problem = run["problem"]
    assert problem["code"] == "budget_exhausted"
    cap = problem["cap"]
    assert (cap["of"], cap["period"], cap["resource"], cap["currency"]) == ("agent", "day", "money", "USD")
    assert cap["spent"] == today["money"]
    assert float(cap["spent"]) + float(cap["reserved"]) + float(cap["wanted"]) > float(cap["limit"])
    told = await facts(platform, "BudgetReached")
    assert ("agent:tester", 100) in [(one["subject"], one["percent"]) for one in told]
    thread = await the_thread(platform, "budget:agent:tester")
    said = (await platform.admin.get(f"/api/v1/inbox/threads/{thread['id']}/messages")).json()["items"]
    assert [one["kind"] for one in said][-1] == "alert"
    assert "The cap on money for the day" in said[-1]["text"]
    owed = (await platform.admin.get("/api/v1/notifications", params={"about": thread["id"]})).json()["items"]
    assert {one["kind"] for one in owed} <= {"warned", "alerted"}
    assert ("admin", "alerted") in [(one["person"], one["kind"]) for one in owed]
    assert [one["subject"] for one in await facts(platform, "BudgetChanged")] == ["agent:tester"]

    assert (await platform.admin.put(BUDGETS, json={"agent": "tester", "period": "day"})).status_code == 200
    assert (await platform.admin.get(BUDGETS)).json()["items"] == []
    assert (await platform.until((await platform.run())["id"], "completed", "blocked"))["status"] == "completed"


@pytest.mark.parametrize(
    ("body", "status", "code", "where"),
    [
        ({"period": "day", "money": "-1"}, 422, "malformed_money", "money"),
        ({"period": "day", "money": "a lot"}, 422, "malformed_money", "money"),
        ({"period": "day", "money": "1000000001"}, 422, "malformed_money", "money"),
        ({"period": "day", "money": 1.5}, 422, "malformed_request", "body.money"),
        ({"period": "day", "money": "1", "currency": "EUR"}, 422, "currency_unknown", "currency"),
        ({"period": "day", "tokens": -5}, 422, "budget_invalid", "tokens"),
        ({"period": "day", "seconds": 10**16}, 422, "budget_invalid", "seconds"),
        ({"period": "week", "money": "1"}, 422, "malformed_request", "body.period"),
        ({"period": "day", "money": "1", "agent": "nobody"}, 404, "agent_unknown", None),
    ],
)
async def test_a_budget_that_cannot_be_is_refused_with_its_place(
    platform: Platform, body: dict[str, Any], status: int, code: str, where: str | None
) -> None:
    refused = await platform.admin.put(BUDGETS, json=body)
    assert (refused.status_code, refused.json()["code"], refused.json().get("where")) == (status, code, where)
    assert refused.json()["next"]


async def test_only_an_admin_changes_budgets(platform: Platform) -> None:
    for person in (platform.author, platform.approver):
        refused = await person.put(BUDGETS, json={"period": "day", "money": "1"})
        assert (refused.status_code, refused.json()["code"]) == (403, "not_allowed")
        assert (await person.get(BUDGETS)).status_code == 200


async def test_the_command_line_sets_and_shows_budgets(shell: Shell) -> None:
    await shell.platform.apply([DONE], [])
    set_ = await shell("budgets", "set", "month", "--money", "250.00", "--time", "8h", by="admin")
    assert (set_["of"], set_["money"], set_["seconds"], set_["currency"]) == ("organization", "250.00", 28800, "USD")
    await shell("budgets", "set", "run", "--agent", "tester", "--tokens", "50000", by="admin")
    assert [one["agent"] for one in (await shell("budgets", "show"))["items"]] == [None, "tester"]
    await shell("budgets", "price", "stub", "*", "--input", "1", "--output", "5", by="admin")
    assert (await shell("budgets", "prices"))["items"][0]["output"] == "5.00"
    run = await shell("run", "tester", "--input", "go", "--follow")
    assert run["status"] == "completed"
    used = (await shell("budgets", "usage"))["items"]
    assert {(one["of"], one["period"]) for one in used} == {
        (of, period) for of in ("organization", "agent") for period in ("day", "month")
    }
    assert (await shell("budgets", "set", "day", "--money", "-3", by="admin", code=2))["code"] == "malformed_money"
    assert (await shell("budgets", "set", "day", "--money", "3", code=3))["code"] == "not_allowed"

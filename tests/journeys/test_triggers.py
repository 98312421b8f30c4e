"""Triggers over HTTP on the real thing: clock, webhook, event, and how they are stopped."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import text
from standardwebhooks.webhooks import Webhook

from agentos.intake.triggers.ticker import tick_for_ever
from agentos.kernel.ids import OrgId
from agentos.kernel.outbox import consume
from tests.journeys.conftest import Platform
from tests.runtime.runs.harness import DONE, calls

SECRET = "whsec_" + base64.b64encode(b"a signing secret of tests").decode()
TRIGGERS = "/api/v1/agents/triggers"


@pytest.fixture
async def clocked(platform: Platform, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Platform]:
    """A platform whose worker minds the clock, and that knows a signing secret."""
    monkeypatch.setenv("AGENTOS_SECRET_PUSH", SECRET)
    held, stop = platform.held, asyncio.Event()
    tasks = [
        asyncio.create_task(tick_for_ever(held.parts.doors, held.parts.meter, stop)),
        asyncio.create_task(consume(held.parts.database, [held.firings.consumer()], stop)),
    ]
    yield platform
    stop.set()
    await asyncio.gather(*tasks)


async def made(platform: Platform, **body: Any) -> dict[str, Any]:
    body = {"name": "tests", "agent": "tester", "input": {"task_description": "go"}} | body
    answer = await platform.author.post(TRIGGERS, json=body)
    assert answer.status_code == 201, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def firings(platform: Platform, trigger: dict[str, Any], count: int = 1) -> list[dict[str, Any]]:
    """The trigger's firings, once there are so many and each is settled."""
    async with asyncio.timeout(30):
        while True:
            found = (await platform.author.get(f"{TRIGGERS}/{trigger['id']}/firings")).json()["items"]
            if len(found) >= count and all(one["state"] != "fired" for one in found):
                return list(found)
            await asyncio.sleep(0.05)


def signed(body: bytes, *, message: str = "msg_1", at: datetime | None = None, secret: str = SECRET) -> dict[str, str]:
    at = at or datetime.now(UTC)
    return {
        "webhook-id": message,
        "webhook-timestamp": str(int(at.timestamp())),
        "webhook-signature": Webhook(secret).sign(message, at, body.decode()),
        "content-type": "application/json",
    }


async def test_a_schedule_fires_when_its_moment_comes(clocked: Platform) -> None:
    await clocked.apply([DONE], [])
    trigger = await made(clocked, schedule={"cron": "* * * * *", "time_zone": "Asia/Kathmandu"})
    moment = datetime.fromisoformat(trigger["next_at"])
    assert timedelta() < moment - datetime.now(UTC) <= timedelta(minutes=1)
    soon = moment - timedelta(minutes=1)  # rather than wait for the minute, let it have come
    organization = OrgId((await clocked.admin.get("/api/v1/me")).json()["organization"])
    async with clocked.held.parts.doors.open(organization) as work:
        await work.run(text("UPDATE triggers SET next_at = :at"), {"at": soon})
    (fired,) = await firings(clocked, trigger)
    assert datetime.fromisoformat(fired["due_at"]) == soon
    run = await clocked.until(fired["run_id"], "completed")
    assert run["requested_by"] == "trigger:tests"
    assert datetime.fromisoformat((await show(clocked, trigger))["next_at"]) == moment


async def show(platform: Platform, trigger: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = (await platform.author.get(f"{TRIGGERS}/{trigger['id']}")).json()
    return found


async def test_a_signed_call_starts_one_run_and_its_replay_none(clocked: Platform) -> None:
    await clocked.apply([DONE], [])
    trigger = await made(clocked, webhook={"secret": "secret://push"}, take={"task_description": "data.title"})
    assert "path" not in await show(clocked, trigger)
    body = json.dumps({"title": "mend it"}).encode()
    headers = signed(body)
    first = await clocked.nobody.post(trigger["path"], content=body, headers=headers)
    again = await clocked.nobody.post(trigger["path"], content=body, headers=headers)
    assert (first.status_code, first.json()["first"], again.json()["first"]) == (202, True, False)
    assert first.json()["firing_id"] == again.json()["firing_id"]
    (fired,) = await firings(clocked, trigger)
    run = await clocked.until(fired["run_id"], "completed")
    assert run["input"] == {"task_description": "mend it"}
    assert run["request_id"] == first.headers["x-request-id"]


BODY = b'{"title":"x"}'
OTHER = "whsec_" + base64.b64encode(b"somebody else's secret").decode()


@pytest.mark.parametrize(
    "headers",
    [
        {},
        signed(BODY, secret=OTHER),
        signed(b'{"title":"y"}'),
        signed(BODY) | {"webhook-id": "msg_2"},
        signed(BODY, at=datetime.now(UTC) - timedelta(minutes=6)),
        signed(BODY, at=datetime.now(UTC) + timedelta(minutes=30)),
        signed(BODY) | {"webhook-signature": "v1"},
        signed(BODY) | {"webhook-signature": "v1,%%%"},
        signed(BODY) | {"webhook-signature": "v9," + "A" * 44},
        signed(BODY) | {"webhook-timestamp": "soon"},
        signed(BODY) | {"webhook-timestamp": "nan"},
    ],
)
async def test_a_forged_or_old_call_is_refused_and_kept(clocked: Platform, headers: dict[str, str]) -> None:
    trigger = await made(clocked, webhook={"secret": "secret://push"})
    answer = await clocked.nobody.post(trigger["path"], content=BODY, headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (401, "bad_signature")
    assert SECRET not in answer.text
    assert (await clocked.author.get(f"{TRIGGERS}/{trigger['id']}/firings")).json()["items"] == []
    organization = OrgId((await clocked.admin.get("/api/v1/me")).json()["organization"])
    async with clocked.held.parts.doors.open(organization) as work:
        rows = await work.all(text("SELECT body FROM outbox WHERE name = 'AccessRefused'"))
    assert [row.body["reason"] for row in rows] == ["bad_signature"]


async def test_a_signed_call_that_is_no_json_is_refused(clocked: Platform) -> None:
    trigger = await made(clocked, webhook={"secret": "secret://push"})
    for body in (b"", b"{", b"\xff\xfe", b"[" * 5000):
        answer = await clocked.nobody.post(trigger["path"], content=body, headers=signed_bytes(body))
        assert answer.status_code in (401, 422), answer.text


def signed_bytes(body: bytes) -> dict[str, str]:
    try:
        return signed(body)
    except UnicodeDecodeError:
        return signed(b"{}")


async def test_an_address_that_nobody_gave_out_is_not_found(clocked: Platform) -> None:
    for address in ("x", "a" * 43, "a" * 5000, "..%2fme"):
        assert (await clocked.nobody.post(f"/api/v1/hooks/{address}", content=BODY)).status_code == 404


async def test_a_webhooks_secret_is_named_and_there(clocked: Platform) -> None:
    for secret, status in (("whsec_aaaa", 422), ("secret://nobody_set_this", 404)):
        body = {"name": "hook", "agent": "tester", "webhook": {"secret": secret}}
        assert (await clocked.author.post(TRIGGERS, json=body)).status_code == status


async def test_an_event_fires_the_best_match_once(clocked: Platform) -> None:
    await clocked.apply([DONE], [])
    await made(clocked, name="any", event={})
    trigger = await made(clocked, name="pushes", event={"type": "com.git.*"}, take={"task_description": "data.what"})
    event = {"specversion": "1.0", "id": "1", "source": "/git", "type": "com.git.push", "data": {"what": "look"}}
    told = (await clocked.author.post(f"{TRIGGERS}/simulate", json=event | {"data": {"what": "?"}})).status_code
    assert told == 422  # 'specversion' is no part of what is simulated: the route takes attributes, not envelopes
    headers = {"content-type": "application/cloudevents+json"}
    answers = [
        await clocked.author.post("/api/v1/events", content=json.dumps(event), headers=headers) for _ in range(2)
    ]
    assert [one.status_code for one in answers] == [202, 202]
    assert [one.json()["first"] for one in answers] == [True, False]
    assert answers[0].json()["trigger_id"] == trigger["id"]
    (fired,) = await firings(clocked, trigger)
    assert (await clocked.until(fired["run_id"], "completed"))["input"] == {"task_description": "look"}


async def test_an_event_that_nothing_waits_for_is_taken_and_fires_nothing(clocked: Platform) -> None:
    headers = {"ce-specversion": "1.0", "ce-id": "1", "ce-source": "/a", "ce-type": "t"}
    answer = await clocked.author.post("/api/v1/events", json={}, headers=headers)
    assert (answer.status_code, answer.json()["firing_id"]) == (202, None)
    refused = await clocked.author.post("/api/v1/events", json={"a": 1})
    assert (refused.status_code, refused.json()["code"]) == (422, "bad_event")
    assert (await clocked.approver.post("/api/v1/events", json={}, headers=headers)).status_code == 403


async def test_a_trigger_is_stopped_as_the_runbook_says(clocked: Platform) -> None:
    await clocked.apply([calls(("pay", 1)), DONE], ["pay"], tier="L3")
    trigger = await made(clocked, event={}, overlap="queue")
    for number in range(3):
        headers = {"ce-specversion": "1.0", "ce-id": str(number), "ce-source": "/a", "ce-type": "t"}
        await clocked.author.post("/api/v1/events", json={}, headers=headers)
    found = await firings(clocked, trigger, 3)
    assert [one["state"] for one in reversed(found)] == ["admitted", "queued", "queued"]
    stopped = await clocked.author.patch(f"{TRIGGERS}/{trigger['id']}", json={"is_enabled": False, "cancel_runs": True})
    assert stopped.json()["is_enabled"] is False
    await clocked.until(found[-1]["run_id"], "cancelled")
    found = await firings(clocked, trigger, 3)
    assert [one["state"] for one in reversed(found)][1:] == ["withdrawn", "withdrawn"]


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"schedule": {"cron": "* * * * *"}, "event": {}},
        {"schedule": {"cron": "every day"}},
        {"schedule": {"cron": "* * * * *", "time_zone": "Mars"}},
        {"schedule": {"cron": "* * * * *", "catch_up": "400d"}},
        {"event": {"type": ""}},
        {"event": {}, "take": {"a": "data.["}},
        {"event": {}, "most_open": 0},
        {"event": {}, "overlap": "perhaps"},
        {"event": {}, "name": "No"},
        {"event": {}, "input": {"a": "\0"}},
    ],
)
async def test_a_trigger_that_is_none_is_refused(clocked: Platform, body: dict[str, Any]) -> None:
    answer = await clocked.author.post(TRIGGERS, json={"name": "t", "agent": "tester"} | body)
    assert answer.status_code == 422, answer.text


async def test_a_name_is_taken_once(clocked: Platform) -> None:
    await made(clocked, event={})
    answer = await clocked.author.post(TRIGGERS, json={"name": "tests", "agent": "tester", "event": {}})
    assert (answer.status_code, answer.json()["code"]) == (409, "trigger_known")

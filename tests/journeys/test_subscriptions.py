"""Outside systems are told of what happened: over HTTP, from the command line, and with the platform's own workers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from standardwebhooks import Webhook

from tests.evidence.subscriptions.conftest import Receiver, receiving
from tests.journeys.conftest import SECRET, Platform
from tests.journeys.test_command_line import Shell
from tests.runtime.runs.harness import DONE

PATH = "/api/v1/subscriptions"


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not holds():
            await asyncio.sleep(0.03)


async def subscribed(platform: Platform, receiver: Receiver, *facts: str, **given: Any) -> dict[str, Any]:
    body = {"name": "hook", "url": receiver.url, "facts": facts or ["Run*"], "secret": "secret://journeys"}
    answer = await platform.author.post(PATH, json=body | given)
    assert answer.status_code == 201, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def test_a_run_is_told_to_who_subscribed(platform: Platform) -> None:
    async with receiving() as receiver:
        one = await subscribed(platform, receiver)
        await platform.apply([DONE], [])
        run = await platform.run()
        await platform.until(run["id"], "completed")
        await until(lambda: len(receiver.received) >= 2)
        told = [Webhook(SECRET).verify(body, headers) for headers, body in receiver.received]
        assert {event["type"] for event in told} == {"agentos.RunAccepted", "agentos.RunEnded"}
        assert {event["subject"] for event in told} == {run["id"]}
        path = f"{PATH}/{one['id']}/deliveries"
        async with asyncio.timeout(30):
            while (await platform.author.get(path, params={"state": "pending"})).json()["items"]:
                await asyncio.sleep(0.03)
        first = (await platform.author.get(path, params={"limit": 1})).json()
        rest = (await platform.author.get(path, params={"cursor": first["next_cursor"]})).json()
        items = first["items"] + rest["items"]
        assert {item["id"] for item in items} == set(receiver.ids)
        assert {(item["state"], item["status"], item["tries"]) for item in items} == {("delivered", 200, 1)}
        retried = await platform.author.post(f"{path}/{items[0]['id']}/retry")
        assert (retried.status_code, retried.json()["code"]) == (409, "delivery_not_dead")
        metrics = (await platform.nobody.get("/metrics")).text
        assert "agentos_event_deliveries_total{" in metrics
        assert (await platform.author.delete(f"{PATH}/{one['id']}")).status_code == 204
        assert (await platform.author.get(path)).status_code == 404


async def test_a_subscription_is_tried_at_once_and_shows_what_the_receiver_said(platform: Platform) -> None:
    async with receiving() as receiver:
        one = await subscribed(platform, receiver, enabled=False)
        tried = (await platform.author.post(f"{PATH}/{one['id']}/test")).json()
        assert (tried["delivered"], tried["status"], tried["said"]) == (True, 200, "taken")
        ((headers, body),) = receiver.received
        event = Webhook(SECRET).verify(body, headers)
        assert (event["type"], event["subject"]) == ("agentos.Test", one["id"])
        receiver.answer = lambda: web.Response(text="not you", status=403)
        tried = (await platform.author.post(f"{PATH}/{one['id']}/test")).json()
        assert (tried["delivered"], tried["status"], tried["said"]) == (False, 403, "not you")
        missing = {"secret": "secret://nobody-set"}
        assert (await platform.author.patch(f"{PATH}/{one['id']}", json=missing)).status_code == 200
        tried = (await platform.author.post(f"{PATH}/{one['id']}/test")).json()
        assert (tried["delivered"], tried["status"], tried["reason"]) == (False, None, "secret_missing")
        assert len(receiver.received) == 2
        assert (await platform.author.get(f"{PATH}/{one['id']}/deliveries")).json()["items"] == []


@pytest.mark.parametrize(
    ("change", "status", "code"),
    [
        ({"url": "https://127.0.0.2/hook"}, 403, "target_forbidden"),
        ({"url": "http://8.8.8.8/hook"}, 403, "target_forbidden"),
        ({"url": "https://u:p@127.0.0.1/"}, 422, "target_malformed"),
        ({"url": "https://127.0.0.1/" + "x" * 2048}, 422, "malformed_request"),
        ({"facts": ["Nothing"]}, 422, "bad_subscription"),
        ({"facts": []}, 422, "malformed_request"),
        ({"secret": SECRET}, 422, "bad_subscription"),
        ({"name": "Not A Name"}, 422, "malformed_id"),
        ({"name": "hook"}, 409, "subscription_known"),
    ],
)
async def test_what_nothing_could_be_sent_for_is_refused(
    platform: Platform, change: dict[str, Any], status: int, code: str
) -> None:
    async with receiving() as receiver:
        await subscribed(platform, receiver)
        other = await subscribed(platform, receiver, name="other")
        body = {"name": "third", "url": receiver.url, "facts": ["*"], "secret": "secret://journeys"} | change
        answers = [
            await platform.author.post(PATH, json=body),
            await platform.author.patch(f"{PATH}/{other['id']}", json=change),
        ]
        assert {(one.status_code, one.json()["code"]) for one in answers} == {(status, code)}
        assert all(SECRET not in one.text for one in answers)
        assert (await platform.author.get(f"{PATH}/{other['id']}")).json() == other


async def test_an_organization_has_fifty_subscriptions_at_most(platform: Platform) -> None:
    async with receiving() as receiver:
        names = [f"n{number}" for number in range(49)]
        await asyncio.gather(*(subscribed(platform, receiver, name=name) for name in names))
        body = {"url": receiver.url, "facts": ["*"], "secret": "secret://journeys"}
        last = await asyncio.gather(
            *(platform.author.post(PATH, json=body | {"name": name}) for name in ("a", "b", "c"))
        )
        assert sorted(one.status_code for one in last) == [201, 409, 409]
        assert {one.json()["code"] for one in last if one.status_code == 409} == {"subscriptions_full"}


async def test_who_may_look_does_not_say_who_is_told(platform: Platform) -> None:
    async with receiving() as receiver:
        one = await subscribed(platform, receiver)
        assert (await platform.approver.get(f"{PATH}/{one['id']}")).json() == one
        assert [item["id"] for item in (await platform.approver.get(PATH)).json()["items"]] == [one["id"]]
        refused = await platform.approver.patch(f"{PATH}/{one['id']}", json={"enabled": False})
        assert (refused.status_code, refused.json()["code"]) == (403, "not_allowed")
        made = {"machine": "deployer", "scopes": ["read", "subscriptions.change"]}
        key = (await platform.admin.post("/api/v1/keys", json=made)).json()["secret"]
        async with platform.acting(key) as machine:
            assert (await machine.patch(f"{PATH}/{one['id']}", json={"enabled": False})).json()["enabled"] is False


async def test_the_command_line_keeps_subscriptions(platform: Platform, tmp_path: Path) -> None:
    shell = Shell(platform, tmp_path)
    async with receiving() as receiver:
        words = (
            "--url",
            receiver.url,
            "--fact",
            "Subscription*",
            "--fact",
            "RunEnded",
            "--secret",
            "secret://journeys",
        )
        one = await shell("subscriptions", "add", "hook", *words)
        assert one["facts"] == ["RunEnded", "Subscription*"]
        await shell("subscriptions", "add", "hook", *words, code=5)
        await shell("subscriptions", "add", "inward", *words, "--url", "https://127.0.0.2/", code=3)
        assert [row["id"] for row in await shell("subscriptions", "list")] == [one["id"]]
        assert await shell("subscriptions", "show", one["id"]) == one
        assert (await shell("subscriptions", "test", one["id"]))["delivered"] is True
        assert (await shell("subscriptions", "disable", one["id"]))["enabled"] is False
        assert (await shell("subscriptions", "enable", one["id"]))["enabled"] is True
        await until(lambda: len(receiver.received) >= 3)
        owed = (await shell("subscriptions", "deliveries", one["id"], "--limit", "1"))["items"]
        assert owed[0]["fact"].startswith("Subscription")
        await shell("subscriptions", "retry", one["id"], owed[0]["id"], code=5)
        await shell("subscriptions", "deliveries", one["id"], "--state", "lost", code=2)
        assert (await shell("subscriptions", "remove", one["id"]))["removed"] is True
        await shell("subscriptions", "show", one["id"], code=4)

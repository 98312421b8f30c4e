"""Facts reach whoever wants them: signed, at least once, in spite of receivers and workers that fail."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta
from typing import Any

import pytest
from aiohttp import web
from sqlalchemy import text
from standardwebhooks import Webhook

from agentos.adapters.events import webhook
from agentos.evidence.subscriptions import dispatch, service
from agentos.evidence.subscriptions.dispatch import EACH, KEPT, Dispatch
from agentos.evidence.subscriptions.model import DeliveryNotDead, DeliveryState, SubscriptionDisabled
from agentos.intake.identity import service as identity
from agentos.kernel.database import Database
from agentos.kernel.ids import OrgId
from agentos.kernel.retention import forget
from tests.evidence.subscriptions.conftest import SECRET, BellRung, Receiver, Told

DAY, LEASE = timedelta(days=1), timedelta(seconds=61)
HELD, MINUTES = timedelta(minutes=5, seconds=1), timedelta(minutes=7)


@asynccontextmanager
async def delivering(*workers: Dispatch) -> AsyncIterator[None]:
    """The workers' loops, on the database's clock."""
    stop = asyncio.Event()
    tasks = [asyncio.create_task(one.deliver_for_ever(stop)) for one in workers]
    yield
    stop.set()
    await asyncio.gather(*tasks)


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not holds():
            await asyncio.sleep(0.02)


def says(status: int, **headers: str) -> Callable[[], web.Response]:
    return lambda: web.Response(status=status, headers={k.replace("_", "-"): v for k, v in headers.items()})


async def test_a_receiver_can_verify_what_it_gets(told: Told, receiver: Receiver) -> None:
    one = await told.subscribe(receiver.url)
    await told.ring(7)
    await told.owe()
    await told.turn()
    ((headers, body),) = receiver.received
    event = Webhook(SECRET).verify(body, headers)
    assert headers["content-type"].startswith("application/cloudevents+json")
    assert (event["type"], event["source"]) == ("agentos.BellRung", f"/agentos/{told.organization}")
    assert (event["subject"], event["data"]) == ("big", {"bell": "big", "times": 7})
    found = await told.the_delivery(one)
    assert (found.id, found.event_id) == (headers["webhook-id"], event["id"])
    assert (found.state, found.status, found.tries, found.said) == (DeliveryState.DELIVERED, 200, 1, "taken")
    await told.turn(DAY)
    assert len(receiver.received) == 1


async def test_a_fact_read_twice_is_owed_once(told: Told, receiver: Receiver) -> None:
    one = await told.subscribe(receiver.url)
    await told.ring(1, 2)
    await asyncio.gather(told.owe(), told.owe(told.worker()))
    await told.owe()
    assert len(await told.deliveries(one)) == 2


async def test_who_does_not_want_a_fact_or_is_disabled_or_came_later_is_not_told(
    told: Told, receiver: Receiver
) -> None:
    other = await told.subscribe(receiver.url, "DeliveryGivenUp")
    silent = await told.subscribe(receiver.url, enabled=False)
    await told.ring(1)
    late = await told.subscribe(receiver.url)
    await told.ring(2)
    await told.owe()
    assert await told.deliveries(other) == await told.deliveries(silent) == []
    await told.turn()
    assert [one["data"]["times"] for one in receiver.events] == [2]
    assert len(await told.deliveries(late)) == 1


async def test_facts_of_one_organization_are_told_to_nobody_elses_receiver(
    told: Told, database: Database, receiver: Receiver, other_receiver: Receiver
) -> None:
    name = OrgId(f"o{uuid.uuid4().hex[:12]}")
    await identity.found_organization(database, name, name="Other")
    others = Told(database, name)
    mine, theirs = await told.subscribe(receiver.url, "*"), await others.subscribe(other_receiver.url, "*")
    await told.ring(1)
    await others.ring(2)
    await told.owe()
    await others.owe()
    await told.turn()
    assert [one["data"].get("times") for one in receiver.events] == [1]
    assert [one["data"].get("times") for one in other_receiver.events] == [2]
    assert {one["source"] for one in other_receiver.events} == {f"/agentos/{name}"}
    with pytest.raises(service.SubscriptionUnknown):
        await told.subscription(theirs)
    with pytest.raises(service.SubscriptionUnknown):
        await others.deliveries(mine)


async def test_every_try_carries_the_same_id_and_body(told: Told, receiver: Receiver) -> None:
    one = await told.subscribe(receiver.url)
    await told.ring()
    await told.owe()
    receiver.answer = says(500)
    for after in (timedelta(), timedelta(seconds=10), timedelta(minutes=10)):
        await told.turn(after)
    assert (await told.the_delivery(one)).tries == 3
    receiver.answer = says(204)
    await told.turn(timedelta(hours=2))
    assert len(receiver.received) == 4
    assert len({(headers["webhook-id"], body) for headers, body in receiver.received}) == 1
    assert (await told.the_delivery(one)).state is DeliveryState.DELIVERED


@pytest.mark.parametrize("status", [301, 307, 400, 401, 404, 409, 422, 429, 500, 503])
async def test_any_other_answer_is_tried_again_and_no_redirect_is_followed(
    told: Told, receiver: Receiver, status: int
) -> None:
    one = await told.subscribe(receiver.url)
    await told.ring()
    await told.owe()
    receiver.answer = says(status, location=receiver.url)
    await told.turn()
    found = await told.the_delivery(one)
    assert (found.state, found.status, found.reason) == (DeliveryState.PENDING, status, f"http_{status}")
    assert found.last_try_at is not None
    assert found.due_at - found.last_try_at >= timedelta(seconds=5)
    assert len(receiver.received) == 1


async def test_a_receiver_says_when_to_come_back(told: Told, receiver: Receiver) -> None:
    one = await told.subscribe(receiver.url)
    await told.ring()
    await told.owe()
    receiver.answer = says(503, retry_after="120")
    await told.turn()
    found = await told.the_delivery(one)
    assert found.last_try_at is not None
    assert found.due_at - found.last_try_at >= timedelta(seconds=120)
    await told.turn(timedelta(seconds=60))
    assert len(receiver.received) == 1


async def test_nobody_listening_is_a_failed_try(told: Told) -> None:
    one = await told.subscribe("http://127.0.0.1:9/hook")
    await told.ring()
    await told.owe()
    await told.turn()
    found = await told.the_delivery(one)
    assert (found.state, found.status, found.reason) == (DeliveryState.PENDING, None, "receiver_unreachable")


async def test_the_answer_is_kept_cut_and_without_what_cannot_be_stored(told: Told, receiver: Receiver) -> None:
    one = await told.subscribe(receiver.url)
    await told.ring()
    await told.owe()
    receiver.answer = lambda: web.Response(body=b"no\0\xff" + b"x" * 1_000_000, status=500)
    await told.turn()
    said = (await told.the_delivery(one)).said
    assert said.startswith("no\ufffd\ufffdx")
    assert len(said) == 512


async def test_a_receiver_that_is_gone_ends_its_subscription(told: Told, receiver: Receiver) -> None:
    one = await told.subscribe(receiver.url)
    await told.ring(*range(EACH + 1))
    await told.owe()
    receiver.answer = says(410)
    await told.turn()
    found = await told.subscription(one)
    assert (found.enabled, "410" in found.reason) == (False, True)
    (changed,) = await told.facts("SubscriptionChanged")
    assert (changed["enabled"], changed["by"], changed["reason"]) == (False, "", found.reason)
    assert len(await told.facts("DeliveryGivenUp")) == EACH
    await told.turn(DAY / 2)
    assert len(receiver.received) == EACH  # the last waits for somebody to enable it
    async with told.doors.open(told.organization) as work:
        await service.change(work, one.id, name=None, url=None, wants=None, secret=None, enabled=True, by="tester")
    receiver.answer = says(200)
    await told.turn(DAY / 2)
    assert len(await told.deliveries(one, "delivered")) == 1
    assert (await told.subscription(one)).reason == ""


async def test_after_a_day_it_is_a_dead_letter_and_a_person_can_send_it_again(told: Told, receiver: Receiver) -> None:
    one = await told.subscribe(receiver.url)
    await told.ring()
    await told.owe()
    receiver.answer = says(500)
    await told.turn()
    with pytest.raises(DeliveryNotDead):
        await retry(told, one)
    await told.turn(DAY)
    dead = await told.the_delivery(one)
    assert (dead.state, dead.tries, dead.reason) == (DeliveryState.DEAD, 2, "http_500")
    (fact,) = await told.facts("DeliveryGivenUp")
    assert (fact["delivery_id"], fact["subscription_id"], fact["fact"], fact["tries"]) == (
        dead.id,
        one.id,
        "BellRung",
        2,
    )
    await told.turn(2 * DAY)
    assert len(receiver.received) == 2
    receiver.answer = says(200)
    assert (await retry(told, one)).state is DeliveryState.PENDING
    await told.turn()
    assert (await told.the_delivery(one)).state is DeliveryState.DELIVERED
    assert len(set(receiver.ids)) == 1


async def test_a_dead_letter_that_is_sent_again_has_another_day(told: Told, receiver: Receiver) -> None:
    one = await told.subscribe(receiver.url)
    await told.ring()
    await told.owe()
    receiver.answer = says(500)
    await told.turn()
    await told.turn(DAY)
    await retry(told, one)
    await told.turn()
    assert (await told.the_delivery(one)).state is DeliveryState.PENDING


async def test_nothing_is_sent_again_for_who_is_disabled(told: Told, receiver: Receiver) -> None:
    one = await told.subscribe(receiver.url)
    await told.ring()
    await told.owe()
    receiver.answer = says(410)
    await told.turn()
    with pytest.raises(SubscriptionDisabled):
        await retry(told, one)


async def retry(told: Told, one: Any) -> Any:
    delivery = await told.the_delivery(one)
    async with told.doors.open(told.organization) as work:
        return await service.retry(work, one.id, delivery.id, by="ada")


async def test_others_are_told_what_was_given_up_and_the_one_itself_is_not(
    told: Told, receiver: Receiver, other_receiver: Receiver
) -> None:
    broken = await told.subscribe(receiver.url, "*")
    await told.subscribe(other_receiver.url, "DeliveryGivenUp")
    await told.ring()
    await told.owe()
    receiver.answer = says(500)
    await told.turn()
    await told.turn(DAY)
    await told.owe()
    await told.turn()
    (event,) = other_receiver.events
    assert (event["type"], event["data"]["subscription_id"]) == ("agentos.DeliveryGivenUp", broken.id)
    assert len(await told.deliveries(broken)) == 1


async def test_when_a_worker_dies_another_sends_again_with_the_same_id(told: Told, receiver: Receiver) -> None:
    one = await told.subscribe(receiver.url)
    await told.ring()
    await told.owe()
    receiver.gate.clear()
    tasks = await told.dispatch.sender.begin()
    await until(lambda: receiver.at_once == 1)
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    receiver.gate.set()
    other = told.worker()
    await told.turn(worker=other)
    assert len(receiver.received) == 1  # the lease has not run out
    await told.turn(LEASE, worker=other)
    assert len(receiver.received) == 2
    assert len(set(receiver.ids)) == 1
    found = await told.the_delivery(one)
    assert (found.state, found.tries) == (DeliveryState.DELIVERED, 1)


async def test_a_worker_whose_lease_ran_out_does_not_undo_what_the_other_wrote(told: Told, receiver: Receiver) -> None:
    one = await told.subscribe(receiver.url)
    await told.ring()
    await told.owe()
    receiver.gate.clear()
    receiver.answer = says(500)
    tasks = await told.dispatch.sender.begin()
    await until(lambda: receiver.at_once == 1)
    second = asyncio.create_task(told.turn(LEASE, worker=told.worker()))
    await until(lambda: receiver.at_once == 2)
    answers = iter([200, 500])
    receiver.answer = lambda: web.Response(status=next(answers))
    receiver.gate.set()
    await asyncio.wait([*tasks, second])
    assert (await told.the_delivery(one)).state is DeliveryState.DELIVERED


async def test_without_its_secret_a_delivery_waits_with_the_reason_and_nothing_is_sent(
    told: Told, receiver: Receiver
) -> None:
    one = await told.subscribe(receiver.url, secret="later")
    await told.ring()
    await told.owe()
    await told.turn()
    found = await told.the_delivery(one)
    assert (found.state, found.reason, found.tries) == (DeliveryState.PENDING, "secret_missing", 0)
    assert "later" in found.said
    told.secrets["later"] = "whsec_!no base64!"
    await told.turn(HELD)
    assert (await told.the_delivery(one)).reason == "webhook_secret_malformed"
    assert receiver.received == []
    told.secrets["later"] = SECRET
    await told.turn(2 * HELD)
    assert len(receiver.received) == 1
    async with told.doors.open(told.organization) as work:
        for table in ("subscriptions", "deliveries", "outbox"):
            assert SECRET not in str(await work.all(text(f"SELECT * FROM {table}")))


async def test_a_name_that_turns_inward_is_not_reached(
    told: Told, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = ["8.8.8.8"]

    async def resolved(host: str, port: int, **given: Any) -> Any:
        return [(2, 1, 6, "", (address[0], port))]

    told.hosts = ()
    told.dispatch = told.worker()
    real = asyncio.get_running_loop().getaddrinfo

    async def named(host: str, port: int, **given: Any) -> Any:
        return await (resolved if host == "hooks.example" else real)(host, port, **given)

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", named)
    port = receiver.url.rpartition(":")[2].partition("/")[0]
    url = await told.dispatch._receivers.check(f"https://hooks.example:{port}/hook")
    one = await told.subscribe(url)
    address[0] = "127.0.0.1"
    await told.ring()
    await told.owe()
    await told.turn()
    found = await told.the_delivery(one)
    assert (found.state, found.status, found.reason) == (DeliveryState.PENDING, None, "target_forbidden")
    assert receiver.received == []


async def test_a_worker_that_holds_all_its_locks_still_sends(told: Told, receiver: Receiver) -> None:
    await told.subscribe(receiver.url)
    await told.ring()
    async with AsyncExitStack() as locks:
        for _ in range(3):  # run_engine's, the subscriptions' own and the sweeper's
            await locks.enter_async_context(told.database.connection("agentos_system"))
        await told.owe()
        await told.turn()
    assert len(receiver.received) == 1


async def test_a_slow_receiver_delays_nobody_else_and_gets_four_at_a_time(
    told: Told, receiver: Receiver, other_receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webhook, "TOTAL", DAY)  # on a slow machine, too, the slow receiver outlasts the other
    monkeypatch.setattr(dispatch, "LEASE_SECONDS", DAY.total_seconds())
    await told.subscribe(receiver.url)
    await told.subscribe(other_receiver.url)
    await told.ring(*range(20))
    await told.owe()
    receiver.gate.clear()
    async with delivering(told.dispatch, told.worker(), told.worker()):
        await until(lambda: len(set(other_receiver.ids)) == 20 and receiver.at_once == EACH)
        assert len(receiver.received) == EACH
        receiver.gate.set()
        await until(lambda: len(receiver.received) == 20)
    assert receiver.most_at_once == EACH


async def test_a_flood_arrives_completely_and_once(told: Told, receiver: Receiver) -> None:
    one = await told.subscribe(receiver.url)
    for start in range(0, 1000, 50):
        async with told.doors.open(told.organization) as work:
            for number in range(start, start + 50):
                await work.publish(BellRung("flood", number))
    workers = [told.dispatch, told.worker()]
    async with delivering(*workers):
        await told.owe()
        await until(lambda: len(receiver.received) >= 1000)
        async with asyncio.timeout(30):
            while len(await told.deliveries(one, "delivered")) < 1000:
                await asyncio.sleep(0.05)
    assert sorted(event["data"]["times"] for event in receiver.events) == list(range(1000))
    assert len(set(receiver.ids)) == len({event["id"] for event in receiver.events}) == 1000
    assert receiver.most_at_once <= EACH


async def test_what_ended_long_ago_is_forgotten_and_what_is_owed_is_not(told: Told, receiver: Receiver) -> None:
    one, other = await told.subscribe(receiver.url), await told.subscribe("http://127.0.0.1:9/")
    await told.ring()
    await told.owe()
    await told.turn()
    before = (await told.the_delivery(one)).made_at
    await forget(told.doors.database, KEPT, at=before + KEPT.kept)
    assert len(await told.deliveries(one)) == 1
    await forget(told.doors.database, KEPT, at=before + DAY + KEPT.kept)
    assert (len(await told.deliveries(one)), len(await told.deliveries(other))) == (0, 1)


async def test_tries_are_counted_by_what_they_came_to(told: Told, receiver: Receiver) -> None:
    await told.subscribe(receiver.url)
    await told.ring(1)
    await told.owe()
    await told.turn()
    receiver.answer = says(500)
    await told.ring(2)
    await told.owe()
    await told.turn()
    page = told.meter.page().decode()
    for outcome in ("delivered", "retried"):
        assert f'agentos_event_deliveries_total{{org="{told.organization}",outcome="{outcome}"}} 1.0' in page
        assert f'agentos_event_delivery_duration_seconds_count{{outcome="{outcome}"}} 1.0' in page

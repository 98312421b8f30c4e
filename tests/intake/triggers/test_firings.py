"""What becomes of a firing: overlap, disabling, duplicates, and which trigger an event fires."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any

import pytest
from sqlalchemy import text

from agentos.control.stops import service as stops
from agentos.control.stops.model import StopKind, StopScope
from agentos.control.stops.model import Wanted as Stopping
from agentos.intake.triggers import service
from agentos.intake.triggers.model import (
    BadTrigger,
    Event,
    Overlap,
    Pattern,
    Schedule,
    State,
    Trigger,
    TriggerDisabled,
    Wanted,
)
from agentos.intake.triggers.service import read_event
from agentos.kernel.database import Database
from agentos.kernel.ids import FiringId, OrgId
from agentos.runtime.runs.firings import Firings
from agentos.runtime.runs.model import RunStatus
from tests.runtime.runs.harness import DONE, Harness, calls, harness

AT = datetime(2026, 11, 21, tzinfo=UTC)
GO = {"task_description": "go"}


@pytest.fixture
async def held(database: Database, organization: OrgId) -> Harness:
    found = harness(database, organization)
    await found.agent([DONE])
    return found


async def trigger(held: Harness, name: str = "on_push", on: Pattern | Schedule | None = None, **more: Any) -> Trigger:
    wanted = Wanted(name, "tester", "production", on or Pattern(), **({"input": GO} | more))
    async with held.doors.open(held.organization) as work:
        made, _ = await service.add(work, wanted, by="author", at=AT)
        return made


async def fire(held: Harness, made: Trigger, said: str) -> FiringId:
    async with held.doors.open(held.organization) as work:
        locked = await service.get(work, made.id, "FOR SHARE")
        fired, _ = await service.fire(
            work, locked, Event(said, "/tests", "pushed"), dedup=said, due_at=AT, request_id="req"
        )
        return fired


async def act(held: Harness) -> None:
    """Do what the consumer would with every fact there is; it is safe to repeat."""
    consumer = Firings(held.parts)
    from agentos.kernel.facts import Fact

    async with held.doors.open(held.organization) as work:
        rows = await work.all(text("SELECT name, body FROM outbox ORDER BY txid, seq"))
    facts = [fact for row in rows if (fact := Fact.read(row.name, row.body)) is not None]
    await consumer.hint(held.organization, facts)


async def states(held: Harness, made: Trigger) -> list[str]:
    async with held.doors.open(held.organization) as work:
        found = await service.firings(work, made.id, state="", before="", most=50)
    return [one.state.value for one in reversed(found)]


async def runs(held: Harness, made: Trigger) -> list[str]:
    async with held.doors.open(held.organization) as work:
        found = await service.firings(work, made.id, state="", before="", most=50)
    return [one.run_id for one in reversed(found) if one.run_id]


async def test_a_firing_becomes_a_run_once_however_often_it_is_told(held: Harness) -> None:
    made = await trigger(held)
    await fire(held, made, "one")
    await act(held)
    await act(held)
    (run_id,) = await runs(held, made)
    run = await held.finish(run_id)  # type: ignore[arg-type]
    assert (run.status, run.requested_by, run.request_id) == (RunStatus.COMPLETED, "trigger:on_push", "req")
    await act(held)
    assert await states(held, made) == ["ended"]


async def test_the_same_event_fires_once_also_at_the_same_moment(held: Harness) -> None:
    made = await trigger(held)

    async def send() -> tuple[FiringId, bool]:
        async with held.doors.open(held.organization) as work:
            fired = await service.fire_event(work, Event("7", "/git", "pushed"), at=AT, request_id="req")
            assert fired is not None
            return fired[1], fired[2]

    found = await asyncio.gather(*(send() for _ in range(5)))
    assert sorted(first for _, first in found) == [False] * 4 + [True]
    assert len({firing for firing, _ in found}) == 1
    await act(held)
    assert len(await runs(held, made)) == 1


@pytest.mark.parametrize(
    ("overlap", "expected"),
    [
        (Overlap.ALLOW, ["admitted", "admitted", "admitted"]),
        (Overlap.SKIP, ["admitted", "skipped", "skipped"]),
        (Overlap.QUEUE, ["admitted", "queued", "queued"]),
        (Overlap.REPLACE, ["admitted", "admitted", "admitted"]),
    ],
)
async def test_overlap(held: Harness, overlap: Overlap, expected: list[str]) -> None:
    made = await trigger(held, overlap=overlap)
    for said in ("one", "two", "three"):
        await fire(held, made, said)
        await act(held)
    assert await states(held, made) == expected
    orders = [(await held.run(run)).ordered for run in await runs(held, made)]  # type: ignore[arg-type]
    assert orders == (["cancel", "cancel", ""] if overlap is Overlap.REPLACE else [""] * len(orders))


async def test_queued_firings_start_in_order_as_runs_end_and_none_is_lost(held: Harness) -> None:
    made = await trigger(held, overlap=Overlap.QUEUE, most_open=2)
    for number in range(5):
        await fire(held, made, f"e{number}")
    await act(held)
    assert await states(held, made) == ["admitted", "admitted", "queued", "queued", "queued"]
    for done in range(5):
        await held.finish((await runs(held, made))[done])  # type: ignore[arg-type]
        await act(held)
    assert await states(held, made) == ["ended"] * 5


async def test_a_disabled_trigger_fires_nothing_and_withdraws_what_has_no_run_yet(held: Harness) -> None:
    made = await trigger(held, overlap=Overlap.QUEUE)
    await fire(held, made, "admitted before")
    await act(held)
    await fire(held, made, "under way")
    await disable(held, made)
    await act(held)
    assert await states(held, made) == ["admitted", "withdrawn"]
    with pytest.raises(TriggerDisabled):
        await fire(held, made, "after")
    async with held.doors.open(held.organization) as work:
        assert await service.fire_event(work, Event("8", "/git", "pushed"), at=AT, request_id="r") is None


async def test_disabling_waits_for_an_admission_that_is_under_way_and_none_passes_it(held: Harness) -> None:
    made = await trigger(held)
    firing = await fire(held, made, "one")
    async with held.doors.open(held.organization) as work:
        assert await service.weigh(work, firing) is not None
        disabling = asyncio.create_task(disable(held, made))
        await asyncio.sleep(0.2)
        assert not disabling.done()
    await disabling
    await act(held)
    assert await states(held, made) == ["withdrawn"]


async def test_disabling_can_cancel_the_runs_that_it_started(held: Harness) -> None:
    made = await trigger(held)
    await fire(held, made, "one")
    await act(held)
    await disable(held, made, cancel_runs=True)
    await act(held)
    (run_id,) = await runs(held, made)
    assert (await held.run(run_id)).ordered == "cancel"  # type: ignore[arg-type]


async def test_a_run_that_cannot_be_admitted_leaves_its_reason(held: Harness) -> None:
    made = await trigger(held, input={"task_description": 5})
    await fire(held, made, "one")
    await act(held)
    async with held.doors.open(held.organization) as work:
        (one,) = await service.firings(work, made.id, state="", before="", most=5)
    assert (one.state, one.reason, one.run_id) == (State.REFUSED, "input_refused", None)


@pytest.mark.parametrize(
    ("taken", "expected"),
    [(["manual"], ("refused", "trigger_not_taken")), (["manual", "event"], ("admitted", "")), ([], ("admitted", ""))],
)
async def test_a_version_says_by_which_triggers_its_runs_start(
    database: Database, organization: OrgId, taken: list[str], expected: tuple[str, str]
) -> None:
    held = harness(database, organization)
    await held.agent([DONE], triggers=[{"type": one} for one in taken])
    made = await trigger(held)
    await fire(held, made, "one")
    await act(held)
    async with held.doors.open(held.organization) as work:
        (one,) = await service.firings(work, made.id, state="", before="", most=5)
    assert (one.state.value, one.reason) == expected


async def test_the_best_match_fires_by_priority_then_by_how_much_it_says_then_by_age(held: Harness) -> None:
    event = Event("1", "/git/main", "com.git.push", subject="src")

    async def winner() -> tuple[str, list[str]]:
        async with held.doors.open(held.organization) as work:
            said = await service.simulate(work, event)
        return said["fires"]["name"], [one["name"] for one in said["also_match"]]

    await trigger(held, "all")
    await trigger(held, "all_too")
    assert await winner() == ("all", ["all_too"])
    await trigger(held, "pushes", Pattern(type="com.git.*"))
    assert await winner() == ("pushes", ["all", "all_too"])
    await trigger(held, "main", Pattern(type="com.git.*", source="/git/main"))
    await trigger(held, "elsewhere", Pattern(source="/svn/*"), priority=1000)
    assert (await winner())[0] == "main"
    await trigger(held, "urgent", priority=1)
    assert await winner() == ("urgent", ["main", "pushes", "all", "all_too"])


async def test_the_input_is_taken_from_the_event(held: Harness) -> None:
    made = await trigger(
        held, input={"kind": "push"}, take={"task_description": "data.commits[0].message", "no": "data.x"}
    )
    event = Event("1", "/git", "pushed", data={"commits": [{"message": "mend"}]})
    assert service.input_of(made, event) == {"kind": "push", "task_description": "mend"}


@pytest.mark.parametrize("path", ["data.[", "a" * 501, "foo(", ""])
async def test_a_path_that_is_none_is_refused(held: Harness, path: str) -> None:
    with pytest.raises(BadTrigger):
        await trigger(held, take={"task_description": path})


async def test_calls_go_on_when_a_removed_triggers_run_ends(held: Harness) -> None:
    await held.agent([calls(("note", 1)), DONE], name="tester")
    made = await trigger(held)
    await fire(held, made, "one")
    await act(held)
    (run_id,) = await runs(held, made)
    async with held.doors.open(held.organization) as work:
        await service.remove(work, made.id, by="author")
    assert (await held.finish(run_id)).status is RunStatus.COMPLETED  # type: ignore[arg-type]
    await act(held)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"{",
        b'{"specversion":"1.0"}',
        b'{"specversion":"9","id":"1","source":"/a","type":"t"}',
        b'{"specversion":"1.0","id":1,"source":"/a","type":"t"}',
        b'{"specversion":"1.0","id":"' + b"x" * 501 + b'","source":"/a","type":"t"}',
        b'{"specversion":"1.0","id":"a\\u0000","source":"/a","type":"t"}',
        b'{"specversion":"1.0","id":"1","source":"/a","type":"t","data_base64":"AAECAw=="}',
        b"[" * 100_000,
    ],
)
def test_what_is_no_event_is_refused(body: bytes) -> None:
    with pytest.raises(Exception, match=r"CloudEvent|attribute"):
        read_event({"content-type": "application/cloudevents+json"}, body)


def test_an_event_comes_in_either_form() -> None:
    structured = read_event(
        {"Content-Type": "application/cloudevents+json"},
        b'{"specversion":"1.0","id":"1","source":"/a","type":"t","subject":"s","data":{"n":1}}',
    )
    binary = read_event(
        {
            "ce-specversion": "1.0",
            "ce-id": "1",
            "ce-source": "/a",
            "ce-type": "t",
            "ce-subject": "s",
            "content-type": "application/json",
        },
        b'{"n":1}',
    )
    assert (structured.id, structured.source, structured.type, structured.subject) == ("1", "/a", "t", "s")
    assert structured.data == binary.data == {"n": 1}
    assert binary.subject == "s"


async def disable(held: Harness, made: Trigger, *, cancel_runs: bool = False) -> None:
    async with held.doors.open(held.organization) as work:
        await service.change(
            work,
            made.id,
            is_enabled=False,
            overlap=None,
            most_open=None,
            priority=None,
            cancel_runs=cancel_runs,
            by="author",
            at=AT,
        )


async def test_in_degraded_mode_nothing_starts_by_the_clock_and_each_firing_is_kept_with_the_reason(
    held: Harness,
) -> None:
    by_clock = await trigger(held, "nightly", Schedule("0 3 * * *", "UTC"))
    by_event = await trigger(held)
    async with held.doors.open(held.organization) as work:
        stop = await stops.order(work, Stopping(StopKind.DEGRADE, StopScope.ORGANIZATION), by="a")
    for made in (by_clock, by_event):
        await fire(held, made, "a")
    await act(held)
    assert await states(held, by_event) == ["admitted"]
    async with held.doors.open(held.organization) as work:
        (firing,) = await service.firings(work, by_clock.id, state="", before="", most=50)
        await stops.lift(work, stop.id, by="a")
    assert (firing.state.value, firing.reason, firing.run_id) == ("refused", "schedules_paused", None)
    await fire(held, by_clock, "b")
    await act(held)
    assert await states(held, by_clock) == ["refused", "admitted"]

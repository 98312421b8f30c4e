"""A trigger or an event that cannot make an input is refused, and keeps no other trigger from firing."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import text

from agentos.apps.worker.events import taker
from agentos.intake.triggers import service
from agentos.intake.triggers.model import BadTrigger, Event, Pattern, Schedule, Trigger, Wanted
from agentos.intake.triggers.ticker import tick
from agentos.kernel.canonical import NotCanonical
from agentos.kernel.ids import OrgId
from agentos.kernel.telemetry import Meter
from agentos.kernel.unit_of_work import Doors, UnitOfWork

AT = datetime(2026, 11, 21, tzinfo=UTC)
BIG: Mapping[str, Any] = {"number": 2**60}  # RFC 8785 has no form for it


@pytest.fixture(autouse=True)
async def leaves_nothing(doors: Doors, organization: OrgId) -> AsyncIterator[None]:
    """What is due would be made good by whatever test runs a clock next."""
    yield
    async with doors.open(organization) as work:
        for row in await work.all(text("SELECT id FROM triggers")):
            await service.remove(work, row.id, by="tester")


async def add(doors: Doors, organization: OrgId, name: str, on: Schedule | Pattern, **more: Any) -> Trigger:
    async with doors.open(organization) as work:
        made, _ = await service.add(work, Wanted(name, "tester", "production", on, **more), by="tester", at=AT)
        return made


async def fired(doors: Doors, organization: OrgId, trigger: Trigger) -> list[Any]:
    async with doors.open(organization) as work:
        return [json.loads(one.input) for one in await service.firings(work, trigger.id, state="", before="", most=9)]


async def test_a_schedule_that_can_make_no_input_keeps_no_other_from_firing(doors: Doors, organization: OrgId) -> None:
    every_minute = Schedule("* * * * *", "UTC", catch_up=timedelta(hours=1))
    unfit = await add(doors, organization, "unfit", every_minute, take={"number": "to_number('nan')"})
    fit = await add(doors, organization, "fit", every_minute, input={"task_description": "go"})
    await tick(doors, Meter(), AT + timedelta(minutes=1))
    assert await fired(doors, organization, fit) == [{"task_description": "go"}]
    assert await fired(doors, organization, unfit) == []


async def test_a_path_that_does_not_fit_what_came_is_left_out(doors: Doors, organization: OrgId) -> None:
    made = await add(doors, organization, "unfit", Pattern(), input={"a": 1}, take={"n": "length(data.items)"})
    assert service.input_of(made, Event("1", "/git", "pushed", data={})) == {"a": 1}
    assert service.input_of(made, Event("1", "/git", "pushed", data={"items": [1, 2]})) == {"a": 1, "n": 2}


async def test_an_input_without_a_canonical_form_is_refused_with_its_trigger(doors: Doors, organization: OrgId) -> None:
    with pytest.raises(NotCanonical):
        await add(doors, organization, "unfit", Pattern(), input=BIG)


@pytest.mark.parametrize("path", ["|".join(["[@,@]"] * 80), "|".join(["{a: @, b: @}"] * 30)])
async def test_a_path_that_copies_what_came_again_and_again_is_refused(
    doors: Doors, organization: OrgId, path: str
) -> None:
    with pytest.raises(BadTrigger):
        await add(doors, organization, "unfit", Pattern(), take={"all": path})


async def test_an_event_of_a_bus_that_can_make_no_input_is_refused_and_never_comes_again(
    doors: Doors, organization: OrgId
) -> None:
    made, meter = await add(doors, organization, "numbers", Pattern(), take={"number": "data.number"}), Meter()
    take = taker(doors, organization, meter)
    said = {"specversion": "1.0", "id": "1", "source": "/bus", "type": "pushed"}
    await take({}, json.dumps(said | {"data": dict(BIG)}).encode())
    assert 'agentos_events_taken_total{outcome="refused"} 1.0' in meter.page().decode()
    await take({}, json.dumps(said | {"data": {"number": 5}}).encode())
    assert await fired(doors, organization, made) == [{"number": 5}]


async def test_a_schedule_that_fails_keeps_no_other_from_firing(
    doors: Doors, organization: OrgId, monkeypatch: pytest.MonkeyPatch
) -> None:
    every_minute = Schedule("* * * * *", "UTC", catch_up=timedelta(hours=1))
    failing = await add(doors, organization, "failing", every_minute)
    going = await add(doors, organization, "going", every_minute)
    fire_schedule = service.fire_schedule

    async def fails(work: UnitOfWork, trigger_id: str, *, at: datetime) -> timedelta | None:
        if trigger_id == failing.id:
            raise ValueError
        return await fire_schedule(work, trigger_id, at=at)

    monkeypatch.setattr(service, "fire_schedule", fails)
    await tick(doors, Meter(), AT + timedelta(minutes=1))
    assert (await fired(doors, organization, failing), await fired(doors, organization, going)) == ([], [{}])

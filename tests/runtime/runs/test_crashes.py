"""What a crash at any point leaves behind, and who settles it."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import text

from agentos.runtime.runs import service
from agentos.runtime.runs.model import RunStatus, SegmentLost, StepNotUncertain
from agentos.runtime.skills import Lookup
from tests.runtime.runs.harness import DONE, Harness, calls, crash, crashed, losing


async def test_an_answer_is_committed_with_the_intent_that_it_asks_for(held: Harness) -> None:
    await held.agent([calls(("note", 1)), calls(("look", 2)), DONE])
    run = await held.finish(await held.start())
    async with held.doors.open(held.organization) as work:
        rows = await work.all(text("SELECT key, xmin::text AS commit FROM journal WHERE run_id = :id"), {"id": run.id})
    commits = {row.key: row.commit for row in rows}
    assert commits["t0"] == commits["t0.c0~1"] != commits["t0.c0"]
    assert commits["t1"] != commits["t1.c0"]  # a read may take long: the answer is safe before it begins


async def test_a_worker_lost_before_its_answer_is_committed_asks_again_and_acts_once(
    held: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    await held.agent([calls(("send", 1)), DONE])
    run_id = await held.start()
    with losing(held, monkeypatch, "journal_append"):
        await crashed(held, run_id, 1)
    assert await held.steps(run_id) == []
    run = await held.finish(run_id, 2)
    assert run.status is RunStatus.COMPLETED
    assert held.world.count("send") == 1


async def test_a_crash_in_a_read_repeats_the_read_and_nothing_else(held: Harness) -> None:
    await held.agent([calls(("note", 1)), calls(("look", 2)), DONE])
    run_id = await held.start()
    held.world.next("look", crash)
    await crashed(held, run_id, 1)
    run = await held.finish(run_id)
    assert run.status is RunStatus.COMPLETED
    assert held.world.count("note") == 1
    assert held.world.count("look") == 2


async def test_an_idempotent_effect_cut_off_by_a_crash_is_sent_again_with_the_same_key(held: Harness) -> None:
    held.parts.settings = held.parts.settings.model_copy(update={"send_window_seconds": 0.6})
    await held.agent([calls(("note", 1)), DONE])
    run_id = await held.start()
    held.world.next("note", crash)
    await crashed(held, run_id, 1)
    end = await held.segment(run_id, 1)
    run = await held.run(run_id)
    assert end.state == "wait"
    assert run.waiting is not None
    assert run.waiting["reason"] == "settling"
    run = await held.finish(run_id, 2)
    assert run.status is RunStatus.COMPLETED
    assert [key for _, key in held.world.done] == [f"{run_id}.t0.c0"] * 2
    keys = [step["key"] for step in await held.steps(run_id) if step["phase"] == "intent"]
    assert keys == ["t0.c0~1", "t0.c0~2"]


async def test_an_effect_that_cannot_be_repeated_waits_for_a_person_after_a_crash(held: Harness) -> None:
    await held.agent([calls(("send", 1)), DONE])
    run_id = await held.start()
    held.world.next("send", crash)
    await crashed(held, run_id, 1)
    run = await held.finish(run_id)
    assert run.status is RunStatus.WAITING_APPROVAL
    assert run.waiting is not None
    assert (run.waiting["reason"], run.waiting["step"]) == ("uncertain_effect", "t0.c0~1")
    async with held.doors.open(held.organization) as work:
        why = await service.why(work, run_id)
        assert "settle" in why["next"]
        with pytest.raises(StepNotUncertain):
            await service.settle(work, run_id, "t9.c9~1", happened=True, value=None, by="a")
        await service.settle(work, run_id, "t0.c0~1", happened=True, value={"n": 1}, by="a")
    run = await held.finish(run_id, run.token.segment + 1)
    assert run.status is RunStatus.COMPLETED
    assert held.world.count("send") == 1


async def test_an_effect_that_a_person_says_did_not_happen_is_sent_again(held: Harness) -> None:
    await held.agent([calls(("send", 1)), DONE])
    run_id = await held.start()
    held.world.next("send", crash)
    await crashed(held, run_id, 1)
    run = await held.finish(run_id)
    async with held.doors.open(held.organization) as work:
        await service.settle(work, run_id, "t0.c0~1", happened=False, value=None, by="a")
    run = await held.finish(run_id, run.token.segment + 1)
    assert run.status is RunStatus.COMPLETED
    assert held.world.count("send") == 2


@pytest.mark.parametrize(("said", "sends"), [(True, 1), (False, 2)])
async def test_a_receiver_that_can_be_asked_settles_an_effect_itself(held: Harness, said: bool, sends: int) -> None:
    await held.agent([calls(("ring", 1)), DONE], ["ring"])
    run_id = await held.start()
    held.world.receiver[f"{run_id}.t0.c0"] = Lookup(said, {"n": 1})
    held.world.next("ring", crash)
    await crashed(held, run_id, 1)
    run = await held.finish(run_id)
    assert run.status is RunStatus.COMPLETED
    assert held.world.count("ring") == sends


async def test_two_attempts_at_one_run_leave_one_in_charge(held: Harness) -> None:
    await held.agent([calls(("look", 1)), calls(("note", 2)), DONE])
    run_id = await held.start()
    frozen, thaw = asyncio.Event(), asyncio.Event()

    async def freeze(_given: dict[str, Any]) -> dict[str, Any]:
        frozen.set()
        await thaw.wait()
        return {}

    held.world.next("look", freeze)
    zombie = asyncio.create_task(held.segment(run_id, 1))
    await frozen.wait()
    run = await held.finish(run_id, 1)
    thaw.set()
    with pytest.raises(SegmentLost):
        await zombie
    assert run.status is RunStatus.COMPLETED
    assert held.world.count("note") == 1


async def test_a_payload_too_large_for_the_journals_row_comes_back_whole(held: Harness) -> None:
    held.world.next("look", lambda _given: {"text": "x" * 600_000})
    await held.agent([calls(("look", 1)), calls(("look", 2)), DONE])
    run_id = await held.start()
    held.world.next("look", crash)
    await crashed(held, run_id, 1)
    run = await held.finish(run_id)
    assert run.status is RunStatus.COMPLETED
    big = next(step for step in await held.steps(run_id) if step["key"] == "t0.c0")
    assert len(big["content"]["text"]) == 600_000


async def test_settling_is_bounded_when_the_databases_clock_was_set_back(held: Harness) -> None:
    await held.agent([calls(("note", 1)), DONE])
    run_id = await held.start()
    held.world.next("note", crash)
    await crashed(held, run_id, 1)
    pool = await held.parts.database.driver()
    assert pool is not None
    # As if the intent had been recorded an hour in the future: the clock was set back since.
    import os

    import asyncpg
    from sqlalchemy import make_url

    name = held.parts.database._url.database
    url = make_url(os.environ["AGENTOS_TEST_SUPERUSER_URL"]).set(drivername="postgresql", database=name)
    admin = await asyncpg.connect(url.render_as_string(hide_password=False))
    await admin.execute(
        "UPDATE agentos.journal SET send_before = send_before + interval '1 hour', at = at + interval '1 hour' "
        "WHERE run_id = $1",
        run_id,
    )
    await admin.close()
    end = await held.segment(run_id, 1)
    assert end.seconds is None or end.seconds < timedelta(seconds=5).total_seconds()
    assert (await held.finish(run_id, 2)).status is RunStatus.COMPLETED

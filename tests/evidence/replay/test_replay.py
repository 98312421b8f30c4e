"""A run that is executed again against its journal comes to the same, and what differs is named."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from agentos.control.approvals import service as approvals
from agentos.control.policy import service as policies
from agentos.control.policy.model import OrganizationPolicy
from agentos.evidence.replay import again
from agentos.evidence.replay.content import Divergence, Kind
from agentos.evidence.replay.plans import Outcome
from agentos.evidence.replay.playback import play
from agentos.evidence.replay.recording import Recording, RunNotOver
from agentos.kernel.clock import now
from agentos.kernel.database import Database
from agentos.kernel.epochs import ORGANIZATION
from agentos.kernel.errors import Conflict, Unavailable
from agentos.kernel.ids import OrgId
from agentos.runtime.runs import admission
from agentos.runtime.runs import service as runs
from agentos.runtime.runs.journal import Entry
from agentos.runtime.runs.model import RunStatus
from agentos.runtime.skills import Lookup
from tests.runtime.runs.harness import DONE, Harness, calls, harness

ALL = ["look", "note", "send", "ring", "move", "pay", "wipe"]


@pytest.fixture
def held(database: Database, organization: OrgId) -> Harness:
    return harness(database, organization)


async def recorded(held: Harness, run_id: str) -> Recording:
    async with held.doors.open(held.organization) as work:
        return await again.record(work, held.parts, run_id)


async def replayed(held: Harness, run_id: str) -> Outcome:
    """What a replay came to, which called no skill, asked no model, and wrote no row of a journal."""
    done, rows = list(held.world.done), len(await held.steps(run_id))
    async with held.doors.open(held.organization) as work:
        found = await again.replay(work, held.parts, run_id, by="ann", at=now())
    assert held.world.done == done
    assert len(await held.steps(run_id)) == rows
    assert (found.divergence is None) == (found.recorded_hash == found.replayed_hash), found.divergence
    return found.outcome


async def equal(held: Harness, run_id: str) -> Outcome:
    found = await replayed(held, run_id)
    assert found.divergence is None, found.divergence
    assert found.whole
    return found


async def answer(held: Harness, run_id: str, *, approved: bool) -> None:
    async with held.doors.open(held.organization) as work:
        (asked,) = await approvals.listed(work, status="pending", run_id=run_id, after="", most=2)
        await approvals.answer(work, asked.id, person_id="p", handle="bob", approved=approved, note="", at=now())


async def test_a_run_of_reads_and_effects_replays_equal(held: Harness) -> None:
    await held.agent([calls(("look", 1), ("look", 2), ("note", 3)), calls(("send", 4)), DONE], ALL)
    run_id = await held.start()
    assert (await held.finish(run_id)).status is RunStatus.COMPLETED
    found = await equal(held, run_id)
    assert (found.judged, found.taken) == (4, 0)  # the rules were asked again, under the policies that were in force
    assert [one.key for one in found.content.steps] == ["t0", "t0.c0", "t0.c1", "t0.c2", "t1", "t1.c0", "t2"]


async def test_the_same_work_done_twice_is_one_content(held: Harness) -> None:
    await held.agent([calls(("look", 1), ("pay", 3)), DONE], ALL, tier="L3")
    hashes = set()
    for _ in range(2):
        run_id = await held.start()
        await held.finish(run_id)
        await answer(held, run_id, approved=True)
        await held.finish(run_id, 2)
        hashes.add((await equal(held, run_id)).content.content_hash())
    assert len(hashes) == 1


@pytest.mark.parametrize("approved", [True, False])
async def test_people_are_not_asked_again(held: Harness, approved: bool) -> None:
    await held.agent([calls(("pay", 3)), DONE], ALL, tier="L3")
    run_id = await held.start()
    await held.finish(run_id)
    await answer(held, run_id, approved=approved)
    await held.finish(run_id, 2)
    found = await equal(held, run_id)
    (call,) = [one for one in found.content.steps if one.of == "call"]
    assert call.fields["asks"] == ["approved" if approved else "denied"]


async def test_drafts_keep_the_ids_that_they_had(held: Harness) -> None:
    await held.agent([calls(("note", 3)), DONE], ALL, tier="L1")
    run_id = await held.start()
    await held.finish(run_id)
    await equal(held, run_id)
    async with held.doors.open(held.organization) as work:
        (draft,) = await runs.drafts(work, status="open", after="", most=2)
        accepted = await admission.submit_draft(work, held.parts, draft["id"], by="ann", request_id="req-2")
    await held.finish(accepted.run_id)
    await answer(held, accepted.run_id, approved=True)
    await held.finish(accepted.run_id, 2)
    found = await equal(held, accepted.run_id)
    assert found.content.output == {"n": 3}


async def test_refusals_failures_and_wrong_arguments_replay_equal(held: Harness) -> None:
    def no(_: Any) -> Any:
        raise Conflict("not now", where="here", then="Wait.")

    held.world.next("note", no)
    script = [
        calls(("note", 1), ("ghost", 2), ("wipe", 3)),
        {"calls": [{"skill": "look", "arguments": {"n": "x"}}]},
        DONE,
    ]
    await held.agent(script, ["note", "look"])
    run_id = await held.start()
    assert (await held.finish(run_id)).status is RunStatus.COMPLETED
    found = await equal(held, run_id)
    statuses = {one.key: one.fields["status"] for one in found.content.steps if one.of == "call"}
    assert statuses == {"t0.c0": "error", "t0.c1": "denied", "t0.c2": "denied", "t1.c0": "error"}


async def test_sends_that_were_lost_and_settled_replay_equal(held: Harness) -> None:
    def lost(_: Any) -> Any:
        raise Unavailable("no answer")

    held.world.next("note", lost, lost)  # sent again with the same key
    held.world.next("send", lost)  # a person says whether it happened
    held.world.next("ring", lost)  # the receiver says so
    await held.agent([calls(("note", 1), ("ring", 2), ("send", 3)), DONE], ALL)
    run_id = await held.start()
    held.world.receiver[f"{run_id}.t0.c1"] = Lookup(True, {"n": 2})
    await held.finish(run_id)
    async with held.doors.open(held.organization) as work:
        await runs.settle(work, run_id, "t0.c2~1", happened=False, value=None, by="ann")
    assert (await held.finish(run_id, 9)).status is RunStatus.COMPLETED
    found = await equal(held, run_id)
    told = {one.key: (one.fields["sends"], one.fields["settled"]) for one in found.content.steps if one.of == "call"}
    assert told == {"t0.c0": (3, None), "t0.c1": (1, "receiver"), "t0.c2": (2, ["not_happened by ann"])}


async def test_rules_that_would_ask_where_it_was_sent_again_part_by_retry(held: Harness) -> None:
    def lost(_: Any) -> Any:
        raise Unavailable("no answer")

    held.world.next("note", lost)
    await held.agent([calls(("note", 1)), DONE], ALL)
    run_id = await held.start()
    assert (await held.finish(run_id)).status is RunStatus.COMPLETED
    recording = await recorded(held, run_id)
    careful = replace(recording.skills["note"], idempotent=False)
    parted = (await play(replace(recording, skills=recording.skills | {"note": careful}))).divergence
    assert parted is not None
    assert (parted.step, parted.field, parted.kind) == ("t0.c0", "sends", Kind.RETRY)


async def test_a_worker_that_was_lost_changes_no_hash(held: Harness) -> None:
    class Crash(BaseException):
        pass

    def crash(_: Any) -> Any:
        raise Crash

    await held.agent([calls(("note", 1)), DONE], ALL)
    calm, torn = await held.start(), await held.start()
    await held.finish(calm)
    held.world.next("note", crash)
    with pytest.raises(Crash):
        await held.segment(torn)
    await held.finish(torn)
    contents = [await equal(held, one) for one in (calm, torn)]
    assert len({one.content.content_hash() for one in contents}) == 1
    assert [one.content.steps[1].fields["sends"] for one in contents] == [1, 2]


@pytest.mark.parametrize(
    ("script", "more"),
    [
        ([calls(("note", 1)), calls(("note", 1)), DONE], {"budgets": {"turns": 2}}),
        ([calls(("wipe", 1)), DONE], {"onDenied": "stop"}),
        ([calls(("note", 1))], {}),  # the script ends: the model refuses to be asked
        ([{"text": "no JSON"}, {"text": '{"a": 1}'}], {"output": {"schema": {"type": "object", "required": ["a"]}}}),
    ],
    ids=["turns", "denied", "model", "schema"],
)
async def test_however_a_run_ended_it_ends_again(held: Harness, script: Any, more: dict[str, Any]) -> None:
    await held.agent(script, ["note"], **more)
    run_id = await held.start()
    await held.finish(run_id)
    await equal(held, run_id)


async def test_a_run_that_was_cancelled_replays_up_to_there(held: Harness) -> None:
    await held.agent([calls(("pay", 3)), DONE], ALL, tier="L3")
    run_id = await held.start()
    await held.finish(run_id)
    with pytest.raises(RunNotOver):
        await recorded(held, run_id)
    async with held.doors.open(held.organization) as work:
        await runs.order(work, run_id, "cancel", by="ann")
    assert (await held.finish(run_id, 2)).status is RunStatus.CANCELLED
    assert (await equal(held, run_id)).content.status == "cancelled"


async def test_decisions_under_a_policy_of_then_are_made_again_under_it(held: Harness) -> None:
    await held.agent([calls(("note", 1)), DONE], ALL)
    async with held.doors.open(held.organization) as work:
        await policies.save(work, ORGANIZATION, OrganizationPolicy(disabled=("note",)), by="ann", at=now())
    run_id = await held.start()
    await held.finish(run_id)
    async with held.doors.open(held.organization) as work:
        await policies.save(work, ORGANIZATION, OrganizationPolicy(), by="ann", at=now())
    found = await equal(held, run_id)
    assert (found.judged, found.taken) == (1, 0)


def changed(rows: tuple[Entry, ...], key: str, change: Any) -> tuple[Entry, ...]:
    return tuple(change(row) if row.key == key else row for row in rows)


async def test_what_no_longer_fits_is_named_and_classed(held: Harness) -> None:
    await held.agent([calls(("look", 1), ("note", 2)), DONE], ALL)
    run_id = await held.start()
    await held.finish(run_id)
    whole = await recorded(held, run_id)

    def said(row: Entry, **content: Any) -> Entry:
        return replace(row, content={**row.content, **content})

    def noted(row: Entry, **meta: Any) -> Entry:
        return replace(row, meta={**row.meta, **meta})

    call = {"id": "x", "skill": "look", "arguments": {"n": 7}}
    other = {"id": "x", "skill": "send", "arguments": {"n": 1}}
    second = {"id": "y", "skill": "note", "arguments": {"n": 2}}
    cases: list[tuple[Any, tuple[str, str, Kind]]] = [
        (changed(whole.rows, "t0", lambda r: said(r, calls=[call, second])), ("t0.c0", "arguments", Kind.ARGUMENTS)),
        (changed(whole.rows, "t0", lambda r: said(r, calls=[other, second])), ("t0.c0", "skill", Kind.TOOL)),
        (changed(whole.rows, "t0", lambda r: said(r, calls=[call][:0])), ("t0.c0", "step", Kind.ORDER)),
        (changed(whole.rows, "t1", lambda r: said(r, text="else")), ("run", "output", Kind.TEXT)),
        (changed(whole.rows, "t0.c1~1", lambda r: noted(r, decision="trust")), ("t0.c1", "rule", Kind.POLICY)),
        (whole.rows[:-1], ("t1", "step", Kind.ORDER)),
        (tuple(row for row in whole.rows if row.key != "t0.c0"), ("t0.c0", "step", Kind.ORDER)),
    ]
    for rows, (step, name, kind) in cases:
        found = (await play(replace(whole, rows=rows))).divergence
        assert found is not None
        assert (found.step, found.field, found.kind) == (step, name, kind), found
    assert isinstance((await play(replace(whole, output="else"))).divergence, Divergence)
    assert (await play(whole)).divergence is None


async def test_what_became_of_replays_is_kept_and_counted(held: Harness) -> None:
    await held.agent([calls(("look", 1)), DONE], ALL)
    run_id = await held.start()
    await held.finish(run_id)
    await equal(held, run_id)
    standing = await again.standing(held.parts.database)
    assert standing["last_replay_hash"] == standing["last_recorded_hash"]
    mine = [row for row in await again.drift(held.parts.database) if row["org"] == held.organization]
    assert mine == [{"org": held.organization, "agent_id": "tester", "step": "", "value": 0}]


async def test_time_moves_no_hash(held: Harness) -> None:
    await held.agent([calls(("look", 1)), DONE], ALL)
    run_id = await held.start()
    await held.finish(run_id)
    async with held.doors.open(held.organization) as work:
        later = await again.replay(work, held.parts, run_id, by="ann", at=now() + timedelta(days=400))
    first = (await equal(held, run_id)).content.content_hash()  # the last, so that none of the future is kept
    assert later.replayed_hash == first

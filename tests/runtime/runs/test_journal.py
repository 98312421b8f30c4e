"""An append is committed under everything that was true at that commit, or it is refused and nothing is written."""

from __future__ import annotations

import asyncio

import pytest
from sqlalchemy import text

from agentos.kernel import epochs
from agentos.kernel.database import Database
from agentos.kernel.errors import Unavailable
from agentos.kernel.ids import OrgId, RunId
from agentos.runtime.runs import service, store
from agentos.runtime.runs.journal import Entry, EpochsMoved, Journal, Ordered
from agentos.runtime.runs.loop import SCOPES
from agentos.runtime.runs.model import SegmentLost
from tests.runtime.runs.harness import DONE, Harness, harness


def step(key: str, phase: str = "result") -> Entry:
    return Entry(key, phase, "skill", "look", "ok", {"some": "meta"}, {"n": 1})


async def opened(held: Harness, run_id: RunId, segment: int = 1) -> Journal:
    claimed = await store.claim(held.parts.database, held.organization, run_id, segment, SCOPES)
    assert claimed is not None
    return await Journal.open(held.parts.database, claimed)


@pytest.fixture
async def held(database: Database, organization: OrgId) -> Harness:
    found = harness(database, organization)
    await found.agent([DONE])
    return found


async def test_what_was_appended_is_read_by_the_next_attempt(held: Harness) -> None:
    run_id = await held.start()
    first = await opened(held, run_id)
    await first.append(step("t0"), step("t0.c0"))
    second = await opened(held, run_id)
    assert second.length == 2
    found = second.result("t0.c0")
    assert found is not None
    assert (found.content, found.meta) == ({"n": 1}, {"some": "meta"})


async def test_an_attempt_that_was_taken_over_writes_nothing(held: Harness) -> None:
    run_id = await held.start()
    first = await opened(held, run_id)
    await opened(held, run_id)
    with pytest.raises(SegmentLost):
        await first.append(step("t0"))
    assert await held.steps(run_id) == []


async def test_a_later_segment_fences_out_an_earlier_one_and_never_the_other_way_round(held: Harness) -> None:
    run_id = await held.start()
    late = await opened(held, run_id, 3)
    assert await store.claim(held.parts.database, held.organization, run_id, 2, SCOPES) is None
    await late.append(step("t0"))


async def test_an_intent_is_refused_under_an_order_and_a_result_is_not(held: Harness) -> None:
    run_id = await held.start()
    journal = await opened(held, run_id)
    async with held.doors.open(held.organization) as work:
        await service.order(work, run_id, "pause", by="a")
    with pytest.raises(Ordered):
        await journal.append(step("t0.c0~1", "intent"))
    await journal.append(step("t0"))
    assert journal.standing == "pause"


@pytest.mark.parametrize("scope", ["organization", "category:tests", "deployment"])
async def test_an_intent_is_refused_once_an_epoch_of_its_run_moved(held: Harness, scope: str) -> None:
    run_id = await held.start()
    journal = await opened(held, run_id)
    deployment = journal.claimed.run.deployment_id
    async with held.doors.open(held.organization) as work:
        await epochs.bump(work, f"deployment:{deployment}" if scope == "deployment" else scope)
    with pytest.raises(EpochsMoved):
        await journal.append(step("t0.c0~1", "intent"))
    await journal.append(step("t0"))


async def test_a_bump_of_another_organization_does_not_matter(held: Harness, database: Database) -> None:
    other = harness(database, OrgId(held.organization + "_b"))
    from agentos.intake.identity import service as identity

    await identity.found_organization(database, other.organization, name="Other")
    journal = await opened(held, await held.start())
    async with other.doors.open(other.organization) as work:
        await epochs.bump(work, epochs.ORGANIZATION)
    await journal.append(step("t0.c0~1", "intent"))


async def test_a_bump_waits_for_an_intent_that_is_being_written_and_none_passes_it(held: Harness) -> None:
    journal = await opened(held, await held.start())
    scope = epochs.deployment_scope(journal.claimed.run.deployment_id)
    async with held.doors.open(held.organization) as writing:
        await journal.append_within(await writing.driver(), step("t0.c0~1", "intent"))

        async def bump() -> None:
            async with held.doors.open(held.organization) as work:
                await epochs.bump(work, scope)

        bumping = asyncio.create_task(bump())
        await asyncio.sleep(0.2)
        assert not bumping.done()
    await bumping
    with pytest.raises(EpochsMoved):
        await journal.append(step("t0.c1~1", "intent"))


async def test_a_step_is_recorded_once_by_its_key(held: Harness) -> None:
    journal = await opened(held, await held.start())
    await journal.append(step("t0"))
    with pytest.raises(Exception, match="journal_org_run_id_key_phase_key"):
        await journal.append(step("t0"))


async def test_a_result_is_held_on_to_while_the_database_is_away_and_written_once(
    held: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_id = await held.start()
    journal = await opened(held, run_id)
    real, failures = held.parts.database.group.row, ["before", "after"]

    async def shaky(statement: str, *arguments: object) -> object:
        how = failures.pop(0) if failures else ""
        answer = None if how == "before" else await real(statement, *arguments)
        if how:
            raise Unavailable(f"the connection broke {how} the commit")
        return answer

    monkeypatch.setattr(held.parts.database.group, "row", shaky)
    await journal.append_surely(step("t0.c0"))
    await journal.append(step("t1"))
    assert [found["key"] for found in await held.steps(run_id)] == ["t0.c0", "t1"]


async def test_runs_that_append_at_the_same_moment_share_a_commit(held: Harness) -> None:
    journals = [await opened(held, await held.start()) for _ in range(8)]
    await asyncio.gather(*(journal.append(step("t0"), step("t0.c0~1", "intent")) for journal in journals))
    async with held.doors.open(held.organization) as work:
        made = await work.all(text("SELECT count(*) AS rows, count(DISTINCT xmin::text) AS commits FROM journal"))
    assert made[0].rows == 16
    assert made[0].commits < 8


async def test_a_fenced_attempt_in_a_group_is_refused_and_the_others_are_not(held: Harness) -> None:
    journals = [await opened(held, await held.start()) for _ in range(4)]
    await opened(held, journals[2].claimed.run.id)
    found = await asyncio.gather(*(journal.append(step("t0")) for journal in journals), return_exceptions=True)
    assert [type(one) for one in found] == [type(None), type(None), SegmentLost, type(None)]


async def test_organizations_that_share_a_commit_see_only_their_own(held: Harness, database: Database) -> None:
    other = harness(database, OrgId(held.organization + "_c"))
    from agentos.intake.identity import service as identity

    await identity.found_organization(database, other.organization, name="Other")
    await other.agent([DONE])
    mine, theirs = await held.start(), await other.start()
    wanted = [
        (held.organization, theirs),
        (other.organization, theirs),
        (other.organization, mine),
        (held.organization, mine),
    ]
    found = await asyncio.gather(*(store.claim(database, org, run, 1, SCOPES) for org, run in wanted))
    assert [claimed is not None for claimed in found] == [False, True, False, True]


async def test_what_is_held_is_written_before_the_next_entry_and_once(held: Harness) -> None:
    run_id = await held.start()
    journal = await opened(held, run_id)
    journal.hold(step("t0"))
    assert await held.steps(run_id) == []
    async with held.doors.open(held.organization) as work:
        await service.order(work, run_id, "pause", by="a")
    with pytest.raises(Ordered):
        await journal.append(step("t0.c0~1", "intent"))
    assert await held.steps(run_id) == []
    await journal.flush()
    await journal.flush()
    await journal.append(step("t0.c0"))
    assert [found["key"] for found in await held.steps(run_id)] == ["t0", "t0.c0"]


async def test_the_application_role_reads_only_its_own_journal(held: Harness, database: Database) -> None:
    journal = await opened(held, await held.start())
    await journal.append(step("t0"))
    async with held.doors.open(OrgId("nobody")) as work:
        assert await work.all(text("SELECT * FROM journal")) == []

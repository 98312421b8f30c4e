"""What did this version do between 14:02 and 14:31? Every send is told with what is known of it, in bounded pages."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import text

from agentos.evidence.effects import service, store
from agentos.evidence.effects.model import Effect, Position, Status, Wanted
from agentos.kernel.clock import now
from agentos.kernel.database import Database
from agentos.kernel.errors import Invalid
from agentos.kernel.ids import OrgId
from agentos.runtime.runs import service as runs
from tests.runtime.runs.harness import DONE, Harness, calls, harness


@pytest.fixture
def held(database: Database, organization: OrgId) -> Harness:
    return harness(database, organization)


def today(**asked: Any) -> Wanted:
    return Wanted(now() - timedelta(hours=1), now() + timedelta(hours=1), **asked)


async def listed(held: Harness, wanted: Wanted, most: int = 50) -> list[Effect]:
    found: list[Effect] = []
    before: Position | None = None
    while True:
        async with held.doors.open(held.organization) as work:
            page, before = await service.listed(work, wanted, before=before, most=most)
        assert len(page) <= most
        found += page
        if before is None:
            return found


async def lost(_given: dict[str, Any]) -> dict[str, Any]:
    raise asyncio.CancelledError


async def refuses(_given: dict[str, Any]) -> dict[str, Any]:
    raise Invalid("no")


async def test_an_effect_is_told_with_its_intent_result_key_reversibility_run_and_version(held: Harness) -> None:
    deployment = await held.agent([calls(("note", 1), ("note", 2)), DONE])
    run = await held.finish(await held.start())
    last, first = await listed(held, today())
    assert (first.step, last.step, first.send, first.skill, first.skill_version) == ("t0.c0", "t0.c1", 1, "note", "1")
    assert (first.deployment_id, first.agent_id, first.run_id) == (deployment, "tester", run.id)
    assert (first.version, first.revision, first.effect) == (run.version, 1, 1)
    assert (first.idempotency_key, first.reversibility) == (f"{run.id}.t0.c0", "reversible")
    assert (first.status, first.became, first.decision) == ("ok", "ok", "tier_matrix")
    assert first.arguments_digest.startswith("sha256:")
    assert first.became_at is not None
    assert first.became_at >= first.committed_at


async def test_each_status_is_what_is_known(held: Harness) -> None:
    await held.agent([calls(("note", 1), ("note", 2)), DONE])
    held.world.next("note", lambda _: {}, refuses)
    await held.finish(await held.start())
    assert [(one.status, one.code) for one in await listed(held, today())] == [("failed", "invalid"), ("ok", None)]

    await held.agent([calls(("send", 1)), DONE])
    held.world.next("send", lost)
    with pytest.raises(asyncio.CancelledError):
        await held.segment(run_id := await held.start())
    (one,) = await listed(held, today(skill="send"))
    assert (one.status, one.became, one.told_by) == ("sent", None, None)
    waits = await held.finish(run_id, 1)
    assert (waits.waiting or {})["reason"] == "uncertain_effect"
    (one,) = await listed(held, today(skill="send"))
    assert (one.status, one.became) == ("uncertain", None)
    async with held.doors.open(held.organization) as work:
        await runs.settle(work, run_id, "t0.c0~1", happened=True, value={}, by="ann")
    await held.finish(run_id, 9)
    (one,) = await listed(held, today(skill="send"))
    assert (one.status, one.settled, one.settled_by, one.told_by) == ("settled", "happened", "ann", "ann")
    assert await listed(held, today(status=Status.SETTLED)) == [one]
    assert await listed(held, today(status=Status.SENT)) == []


async def test_it_is_asked_by_deployment_agent_version_skill_and_time(held: Harness) -> None:
    script = [calls(("note", 1), ("move", 2)), DONE]
    await held.agent(script, ("note", "move"))
    old = (await held.finish(await held.start())).version
    deployment = await held.agent(script, ("note", "move"), instructions="Otherwise.")
    new = (await held.finish(await held.start())).version
    await held.agent(script, ("note", "move"), name="other")
    await held.finish(await held.start(name="other"))
    assert old != new
    assert len(await listed(held, today())) == 6
    assert {one.version for one in await listed(held, today(version=old))} == {old}
    assert len(await listed(held, today(version=new[:20], deployment=deployment))) == 2
    assert len(await listed(held, today(agent="tester"))) == 4
    (one,) = await listed(held, today(agent="other", skill="move"))
    assert one.agent_id == "other"
    exactly = replace(today(), since=one.committed_at, until=one.committed_at + timedelta(microseconds=1))
    assert await listed(held, exactly) == [one]
    assert await listed(held, replace(today(), until=one.committed_at, agent="other", skill="move")) == []


@pytest.mark.parametrize("look", [1, 2, 3, 20_000])
async def test_pages_hold_each_effect_once_however_little_a_page_looks_at(
    held: Harness, look: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "LOOK", look)
    await held.agent([calls(("note", 1), ("move", 2), ("note", 3)), calls(("note", 4)), DONE], ("note", "move"))
    for _ in range(2):
        await held.finish(await held.start())
    every = await listed(held, today())
    assert [one.committed_at for one in every] == sorted((one.committed_at for one in every), reverse=True)
    assert len(every) == 8
    for most in (1, 2, 3, 50):
        assert await listed(held, today(), most) == every
        assert await listed(held, today(skill="note"), most) == [one for one in every if one.skill == "note"]


ROWS = 100_000
_MANY = """
INSERT INTO journal (org, run_id, seq, key, phase, kind, name, status, effect, idempotency_key, segment, attempt, at,
                     meta)
SELECT :org, :run_id, 1000 + n, 't' || n || '.c0~1', 'intent', 'skill', 'note', 'sent', 1, 'k' || n, 1, 1,
       CAST(:at AS timestamptz) + make_interval(secs => n), '{}' FROM generate_series(1, :rows) AS n
"""


async def test_a_page_out_of_100000_effects_reads_no_more_than_it_looks_at(held: Harness) -> None:
    await held.agent([DONE])
    run_id = await held.start()
    began = datetime(2026, 1, 1, tzinfo=UTC)
    async with held.doors.open(held.organization) as work:
        await work.run(text(_MANY), {"org": held.organization, "run_id": run_id, "at": began, "rows": ROWS})
    middle = began + timedelta(seconds=ROWS / 2)
    for asked, most, look in (({}, 50, 51), ({"skill": "note"}, 50, service.LOOK), ({"skill": "no"}, 50, service.LOOK)):
        wanted = Wanted(began, middle, **asked)
        async with held.doors.open(held.organization) as work:
            found, _ = await service.listed(work, wanted, before=None, most=most)
            assert len(found) == (0 if asked == {"skill": "no"} else most)
            read = await _read(work, wanted, look, most)
        assert read["journal"] <= look * 2, "the rows that are looked at, and for each the result, of which is none"
        assert "Seq Scan on journal" not in read["scans"]


async def _read(work: Any, wanted: Wanted, look: int, most: int) -> dict[str, Any]:
    """How many rows of the journal the statement takes from it, and by which kinds of scan."""
    asked = {name: getattr(wanted, name) for name in ("since", "until", "deployment", "agent", "version", "skill")}
    asked |= {"org": work.organization, "status": "", "look": look, "most": most + 1}
    asked |= {"before_at": wanted.until, "before_run": "~", "before_seq": 0}
    row = await work.first(text(f"EXPLAIN (ANALYZE, FORMAT JSON) {store._LIST.text}"), asked)
    read: dict[str, Any] = {"journal": 0, "scans": set()}

    def walk(node: dict[str, Any]) -> None:
        if node.get("Relation Name") == "journal":
            read["journal"] += node["Actual Rows"] * node["Actual Loops"] + node.get("Rows Removed by Filter", 0)
            read["scans"].add(f"{node['Node Type']} on journal")
        for one in node.get("Plans", ()):
            walk(one)

    walk(row[0][0]["Plan"])
    return read

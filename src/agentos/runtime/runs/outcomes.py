"""How a segment's end becomes the run's state, in one transaction with its facts."""

from __future__ import annotations

from typing import Any

from agentos.control.approvals import service as approvals
from agentos.control.stops import service as stops
from agentos.control.stops.model import Stop
from agentos.kernel import epochs
from agentos.kernel.clock import now
from agentos.kernel.unit_of_work import Doors, UnitOfWork
from agentos.runtime.runs import store
from agentos.runtime.runs.journal import Entry, Journal, Ordered
from agentos.runtime.runs.model import Claimed, MessagesUnread, Reason, Run, RunEnded, RunStatus, SegmentLost, Waiting


async def hold(work: UnitOfWork, claimed: Claimed) -> Run:
    """Lock the run for this unit of work, as the attempt that owns it. Raises SegmentLost (Unavailable)."""
    run = await store.get(work, claimed.run.id, lock=True)
    if run is None or run.token != claimed.run.token or run.status.terminal:
        raise SegmentLost("another attempt owns this run now", where=claimed.run.id)
    return run


async def park(work: UnitOfWork, claimed: Claimed, waiting: Waiting, status: RunStatus) -> None:
    """Record what a held run waits for. Raises Ordered when an order came first: it decides then."""
    run = await hold(work, claimed)
    if run.ordered:
        raise Ordered(run.ordered)
    await store.wait(work, run.id, status, waiting, "")


async def rest(
    doors: Doors, claimed: Claimed, journal: Journal, stop: Stop, *, live: bool, recheck_seconds: float
) -> tuple[Waiting, float] | None:
    """Record that a stop holds the run, and the first time in the journal, too; the seconds since the order.

    None, and nothing is recorded, when an epoch has moved. Else a lift of the stop waits for this, and finds the run.
    Raises Ordered, SegmentLost or DatabaseUnavailable.
    """
    token, key = claimed.run.token, f"stopped:{stop.id}"
    # The name is of this wait alone: a wake that came for an earlier one does not end it.
    wake = f"stop:{stop.id}:{token.segment}.{token.attempt}"
    waiting = Waiting(Reason.STOPPED, wake, recheck_seconds, stop.id)
    async with doors.open(claimed.run.organization) as work:
        run = await hold(work, claimed)
        if run.ordered:
            raise Ordered(run.ordered)
        if not await epochs.unmoved(work, journal.epochs):
            return None
        if journal.result(key) is None:
            meta = {"stop": stop.id, "kind": stop.kind.value, "live": live}
            await journal.append_within(await work.driver(), Entry(key, "result", "note", "stopped", "stopped", meta))
        await store.wait(work, run.id, RunStatus.RUNNING, waiting, "")
        return waiting, await stops.age(work, stop.id)


async def end(
    doors: Doors,
    claimed: Claimed,
    status: RunStatus,
    output: bytes | None,
    problem: dict[str, Any] | None,
    bill: str,
    *,
    asked: bool,
    read: int,
) -> float:
    """Record the end of a run and what it spent, and withdraw what it still asks; the seconds since it was accepted.

    ``read``: how many of the messages that people wrote to it it has answered to; about others a fact is published.

    Raises SegmentLost or DatabaseUnavailable.
    """
    run = claimed.run
    code = str((problem or {}).get("code", ""))
    fact = RunEnded(run.id, run.deployment_id, run.agent_id, run.version, status.value, code, run.firing_id or "")
    if asked:
        async with doors.open(run.organization) as work:
            await hold(work, claimed)
            await approvals.withdraw(work, run.id, at=now())
            execute = (await work.driver()).fetchrow
            seconds, unread = await store.end(execute, claimed, status, output, problem, fact, read, bill)
    else:
        execute = doors.database.group.row
        seconds, unread = await store.end(execute, claimed, status, output, problem, fact, read, bill)
    await doors.tell(run.organization, [fact, MessagesUnread(run.id, unread)] if unread else [fact])
    return seconds

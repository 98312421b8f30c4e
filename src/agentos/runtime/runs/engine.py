"""Between the journal and Temporal: start runs, wake them, interrupt them, and find those whose workflow is gone.

All of it is safe to repeat: a run's workflow id is the run's id, and a wake that comes twice is one wake. The facts on
the outbox are the reliable path; ``hint`` does the same at once after a commit.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, Final

import structlog
from sqlalchemy import Row, text
from temporalio.common import WorkflowIDConflictPolicy, WorkflowIDReusePolicy
from temporalio.exceptions import WorkflowAlreadyStartedError
from temporalio.service import RPCError, RPCStatusCode

from agentos.control.approvals.model import ApprovalDecided, ApprovalExpired
from agentos.control.deployments.model import DeploymentResumed
from agentos.control.stops.model import StopLifted
from agentos.kernel.database import Database
from agentos.kernel.durable import RPC_TIMEOUT, WORKFLOW_TASK_TIMEOUT, EngineUnavailable, Link, engine_away
from agentos.kernel.facts import Fact
from agentos.kernel.ids import OrgId
from agentos.kernel.outbox import Consumer, Delivery
from agentos.kernel.telemetry import Meter
from agentos.kernel.telemetry.catalogue import SWEPT
from agentos.kernel.unit_of_work import Doors
from agentos.runtime.runs import store
from agentos.runtime.runs.model import EffectSettled, Reason, RunAccepted, RunOrdered
from agentos.runtime.runs.workflow import AgentRun, RunStart

log = structlog.get_logger(__name__)

PAGE: Final = 500
WAKEN_AT_ONCE: Final = 20  # signals under way: what the embedded engine takes without others waiting for it
# A run younger than this may be between its commit and its start; the outbox's consumer is quicker than the sweeper.
YOUNG_SECONDS: Final = 3.0

_LOCK: Final = text("SELECT outbox_lock('sweeper')")
_STOPPED: Final = text("SELECT * FROM runs_stopped(:stop, :after, :most)")
_UNFINISHED: Final = text("SELECT * FROM runs_unfinished(:after, :most)")


class Engine:
    """Temporal as runs use it."""

    def __init__(self, link: Link, task_queue: str, *, eager: bool = False) -> None:
        self._link = link
        self._task_queue = task_queue
        self._eager = eager  # this process embeds a worker that may begin at once what it starts

    async def start(self, organization: str, run_id: str, *, segment: int = 0, inline: bool = False) -> bool:
        """Make sure that the run has a live workflow. True when this call made it. Raises EngineUnavailable."""
        try:
            client = await self._link.client()
            await client.start_workflow(
                AgentRun.run,
                RunStart(organization, run_id, segment, inline and self._eager),
                id=run_id,
                task_queue=self._task_queue,
                task_timeout=WORKFLOW_TASK_TIMEOUT,
                id_reuse_policy=WorkflowIDReusePolicy.ALLOW_DUPLICATE,
                id_conflict_policy=WorkflowIDConflictPolicy.FAIL,
                request_eager_start=self._eager,
                rpc_timeout=RPC_TIMEOUT,
            )
        except WorkflowAlreadyStartedError:
            return False
        except RPCError as error:
            if error.status is RPCStatusCode.ALREADY_EXISTS:
                return False
            raise _away(error) from error
        return True

    async def wake(self, run_id: str, name: str) -> None:
        """Tell the run that what it waits for has come. A run without a workflow is left to the sweeper."""
        await self._signal(run_id, "wake", name)

    async def interrupt(self, run_id: str) -> None:
        """End the segment that is under way, so that an order is obeyed now and not after a model's long answer."""
        await self._signal(run_id, "interrupt")

    async def alive(self, run_id: str) -> bool:
        """Whether the run has a workflow that is not closed. Raises EngineUnavailable."""
        try:
            client = await self._link.client()
            described = await client.get_workflow_handle(run_id).describe(rpc_timeout=RPC_TIMEOUT)
        except RPCError as error:
            if error.status is RPCStatusCode.NOT_FOUND:
                return False
            raise _away(error) from error
        return described.close_time is None

    async def live(self) -> set[str]:
        """The ids of all runs that have a workflow, as the engine's index shows them: possibly a little late."""
        found: set[str] = set()
        try:
            client = await self._link.client()
            async for one in client.list_workflows(
                "WorkflowType='AgentRun' AND ExecutionStatus='Running'", page_size=1000, rpc_timeout=RPC_TIMEOUT
            ):
                found.add(one.id)
        except RPCError as error:
            raise _away(error) from error
        return found

    async def _signal(self, run_id: str, signal: str, *arguments: str) -> None:
        try:
            client = await self._link.client()
            await client.get_workflow_handle(run_id).signal(signal, args=arguments, rpc_timeout=RPC_TIMEOUT)
        except RPCError as error:
            if error.status is RPCStatusCode.NOT_FOUND:
                return
            raise _away(error) from error


class RunEngine:
    """What happens to runs because of facts, and the sweeper."""

    def __init__(self, doors: Doors, engine: Engine, meter: Meter) -> None:
        self._doors = doors
        self._engine = engine
        self._meter = meter

    def consumer(self) -> Consumer:
        """The reliable path: every fact that starts or wakes a run, in order, until it worked."""
        answers = (ApprovalDecided, ApprovalExpired)
        facts = (RunAccepted, RunOrdered, *answers, EffectSettled, DeploymentResumed, StopLifted)
        return Consumer("run_engine", facts, self._deliver)

    async def hint(self, organization: OrgId, facts: Sequence[Fact]) -> None:
        """The quick path, tried once right after the commit."""
        for fact in facts:
            if not isinstance(fact, StopLifted):  # whoever lifts a stop does not wait for all that it held
                await self._act(organization, fact)

    async def _deliver(self, deliveries: Sequence[Delivery]) -> None:
        for one in deliveries:
            if isinstance(one.fact, RunAccepted):
                at = await store.position(self._doors.database, one.organization, one.fact.run_id)
                if at is None or at[0] > 0 or at[1].terminal:  # a worker has had it in its hands
                    continue
            await self._act(one.organization, one.fact)

    async def _act(self, organization: OrgId, fact: Fact) -> None:
        match fact:
            case RunAccepted():
                await self._engine.start(organization, fact.run_id, inline=fact.inline)
            case RunOrdered():
                if fact.wake:
                    await self._engine.wake(fact.run_id, fact.wake)
                if fact.order != "resume":
                    await self._engine.interrupt(fact.run_id)
            case ApprovalDecided() | ApprovalExpired():
                await self._engine.wake(fact.run_id, f"approval:{fact.approval_id}")
            case EffectSettled():
                await self._engine.wake(fact.run_id, fact.wake)
            case DeploymentResumed():
                async with self._doors.open(organization) as work:
                    parked = await store.parked(work, fact.deployment_id, Reason.DEPLOYMENT_PAUSED)
                for run_id, wake in parked:
                    await self._engine.wake(run_id, wake)
            case StopLifted():
                await self._release(fact.stop_id)
            case _:
                return

    async def _release(self, stop_id: str) -> None:
        """Wake every run that a stop held, of whatever organization."""
        after = ""
        while True:
            async with self._doors.database.connection("agentos_system") as connection:
                rows = (
                    await connection.execute(_STOPPED, {"stop": stop_id, "after": after, "most": WAKEN_AT_ONCE})
                ).all()
            await asyncio.gather(*(self._engine.wake(row.id, row.wake) for row in rows))
            if len(rows) < WAKEN_AT_ONCE:
                return
            after = rows[-1].id

    async def sweep_for_ever(self, every_seconds: float, stop: asyncio.Event) -> None:
        """Sweep until ``stop``; one process at a time does, and an engine that is away is waited for."""
        while not stop.is_set():
            try:
                async with self._doors.database.connection("agentos_system") as held:
                    if (await held.execute(_LOCK)).scalar_one():
                        await self.sweep()
            except Exception as error:  # the sweeper outlives every outage: it is what repairs them
                log.warning("sweep_failed", error=type(error).__name__)
            try:
                await asyncio.wait_for(stop.wait(), every_seconds)
            except TimeoutError:
                continue

    async def sweep(self) -> int:
        """Start again every run that is not over and has no live workflow; how many there were.

        Raises EngineUnavailable or DatabaseUnavailable.
        """
        live = await self._engine.live()
        restarted, after = 0, ""
        while True:
            rows = await self._unfinished(self._doors.database, after)
            for row in rows:
                if row.id in live or row.seconds_old < YOUNG_SECONDS or await self._engine.alive(row.id):
                    continue
                if await self._engine.start(row.org, row.id, segment=row.segment):
                    restarted += 1
                    self._meter.count(SWEPT)
                    log.warning("run_restarted", run_id=row.id, org=row.org, segment=row.segment)
            if len(rows) < PAGE:
                return restarted
            after = rows[-1].id

    async def _unfinished(self, database: Database, after: str) -> Sequence[Row[Any]]:
        async with database.connection("agentos_system") as connection:
            return (await connection.execute(_UNFINISHED, {"after": after, "most": PAGE})).all()


def _away(error: RPCError) -> Exception:
    if engine_away(error):
        return EngineUnavailable("the engine does not answer", then="Accepted work goes on when it is back.")
    return error

"""From an eval that was started, or made to go on, to its workflow. The facts on the outbox are the reliable path."""

from __future__ import annotations

from collections.abc import Sequence

from temporalio.common import WorkflowIDConflictPolicy, WorkflowIDReusePolicy
from temporalio.exceptions import WorkflowAlreadyStartedError
from temporalio.service import RPCError, RPCStatusCode

from agentos.evidence.evals.model import EvalStarted
from agentos.evidence.evals.workflow import EvalFlow, EvalWork
from agentos.kernel.durable import RPC_TIMEOUT, WORKFLOW_TASK_TIMEOUT, EngineUnavailable, Link, engine_away
from agentos.kernel.facts import Fact
from agentos.kernel.ids import OrgId
from agentos.kernel.outbox import Consumer, Delivery


class EvalEngine:
    """What happens to evals because of facts."""

    def __init__(self, link: Link, task_queue: str) -> None:
        self._link = link
        self._task_queue = task_queue

    def consumer(self) -> Consumer:
        """Every start of an eval, in order, until it worked."""
        return Consumer("evals", (EvalStarted,), self._deliver)

    async def hint(self, organization: OrgId, facts: Sequence[Fact]) -> None:
        """The quick path, tried once right after the commit."""
        for fact in facts:
            if isinstance(fact, EvalStarted):
                await self._start(organization, fact)

    async def _deliver(self, deliveries: Sequence[Delivery]) -> None:
        for one in deliveries:
            assert isinstance(one.fact, EvalStarted)
            await self._start(one.organization, one.fact)

    async def _start(self, organization: OrgId, fact: EvalStarted) -> None:
        """Make sure that the eval has a live workflow; one that is over does nothing. Raises EngineUnavailable.

        An eval that goes on after it had failed has a workflow of its own: the one before may still be closing.
        """
        try:
            client = await self._link.client()
            await client.start_workflow(
                EvalFlow.run,
                EvalWork(organization, fact.eval_id),
                id=f"{fact.eval_id}.{fact.resumes}",
                task_queue=self._task_queue,
                task_timeout=WORKFLOW_TASK_TIMEOUT,
                id_reuse_policy=WorkflowIDReusePolicy.ALLOW_DUPLICATE,
                id_conflict_policy=WorkflowIDConflictPolicy.FAIL,
                rpc_timeout=RPC_TIMEOUT,
            )
        except WorkflowAlreadyStartedError:
            return
        except RPCError as error:
            if error.status is RPCStatusCode.ALREADY_EXISTS:
                return
            if engine_away(error):
                raise EngineUnavailable(
                    "the engine does not answer", then="Accepted work goes on when it is back."
                ) from error
            raise

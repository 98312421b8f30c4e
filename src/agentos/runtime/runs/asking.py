"""A call as a question to people, and how the journal and the agent are told what became of it."""

from __future__ import annotations

from typing import Any

from agentos.control.approvals import service as approvals
from agentos.control.approvals.model import Approval, ApprovalStatus, Question
from agentos.control.policy.model import Decision
from agentos.kernel.clock import now
from agentos.kernel.unit_of_work import UnitOfWork
from agentos.runtime.runs import service
from agentos.runtime.runs.model import Run
from agentos.runtime.runs.segment import Segment
from agentos.runtime.skills import Skill


async def question(work: UnitOfWork, run: Run, key: str, one: Skill, arguments: bytes, decision: Decision) -> Question:
    """The question that a decision puts to people. ``arguments``: in canonical form."""
    return Question(
        run_id=run.id,
        step=key,
        deployment_id=run.deployment_id,
        agent_id=run.agent_id,
        category=run.category,
        version=run.version,
        requested_by=run.requested_by,
        starters=await service.starters(work, run),
        skill=one.name,
        skill_version=one.version,
        skill_digest=one.digest,
        reversibility=one.reversibility.value,
        effect=one.effect,
        arguments=arguments,
        rule=decision.code,
        needed=decision.verdict.approvers,
        policy_hash=decision.policy_hash,
    )


async def withdraw(work: UnitOfWork, segment: Segment, key: str) -> None:
    """Close what is still asked about a step, because policy no longer asks."""
    if is_asked(segment, key):
        await approvals.withdraw(work, segment.claimed.run.id, step=key, reason="policy", at=now())


def is_asked(segment: Segment, key: str) -> bool:
    """Whether people were asked about a step."""
    return segment.journal.result(ask_key(key, 1)) is not None


def ask_key(key: str, number: int) -> str:
    """The journal's key of the number-th question about a step."""
    return f"{key}!ask" if number == 1 else f"{key}!ask{number}"


def given(asked: Approval) -> dict[str, Any]:
    """What an intent says of the yes that it uses up."""
    return {"approval": asked.id, "bound": asked.bound, "asked_policy": asked.policy_hash}


def refusal(asked: Approval) -> dict[str, str]:
    """What the agent is told of a question that ended without a yes."""
    if asked.status is ApprovalStatus.DENIED:
        because = f" because: {asked.reason}" if asked.reason else ""
        became = f"was denied by {asked.decided_by}{because}"
    else:
        became = "expired: nobody answered in time"
    return {"code": f"approval_{asked.status.value}", "message": f"the approval of this call {became}"}

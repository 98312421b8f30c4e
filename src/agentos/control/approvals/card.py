"""What a person sees before they decide: who asks, what exactly will happen, how far it reaches, earlier answers."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, Final

from agentos.control.approvals import service
from agentos.control.approvals.model import Approval
from agentos.control.deployments import service as deployments
from agentos.control.policy.hosts import hosts_of
from agentos.control.policy.model import EffectClass
from agentos.kernel.unit_of_work import UnitOfWork

MOST_PLACES: Final = 100  # hosts and paths that a card names; arguments may hold thousands

MEANS: Final = {
    EffectClass.S0: "reads",
    EffectClass.S1: "low-risk internal write",
    EffectClass.S2: "change of medium risk",
    EffectClass.S3: "high-risk external commit",
    EffectClass.S4: "irreversible or regulated",
}


async def card(work: UnitOfWork, approval_id: str) -> dict[str, Any]:
    """The card of an approval, beside the approval itself. Raises ApprovalUnknown (NotFound)."""
    asked = await service.get(work, approval_id)
    deployment = await deployments.get(work, asked.deployment_id)
    counted, last = await service.similar(work, asked)
    hosts, paths = places(json.loads(asked.arguments))
    return {
        "asks": {
            "requested_by": asked.requested_by,
            "started_by": list(asked.starters),
            "agent_id": asked.agent_id,
            "agent_version": asked.version,
            "run_id": asked.run_id,
        },
        "why": {"rule": asked.rule, "policy_hash": asked.policy_hash, "requirement": asked.requirement.document()},
        "does": {
            "skill": f"{asked.skill}@{asked.skill_version}",
            "skill_digest": asked.skill_digest,
            "effect": asked.effect.name,
            "means": MEANS[asked.effect],
            "reversibility": asked.reversibility,
            "bound": asked.bound,
        },
        "blast_radius": {
            "deployment_id": deployment.id,
            "agent_id": deployment.agent_id,
            "environment": deployment.environment,
            "hosts": hosts,
            "paths": paths,
        },
        "similar": {
            "approved": counted.get("approved", 0),
            "denied": counted.get("denied", 0),
            "expired": counted.get("expired", 0),
            "last": last,
        },
        "answers": [_answer(one) for one in await service.answers(work, approval_id)],
        "clock": clock(asked),
    }


def clock(asked: Approval) -> dict[str, Any]:
    """Who is asked now, and what the clock will do."""
    plan = asked.plan.document()
    return {
        "asks": list(asked.asks()),
        "stage": asked.stage + 1,
        "stages": len(asked.plan.stages),
        "level": asked.level,
        "ladder": plan["ladder"],
        "each_level": plan["after"],
        "on_timeout": plan["on_timeout"],
        "ends_in": asked.ends_in.value,
        "next_at": asked.next_at,
        "expires_at": asked.expires_at,
        "handed_over": [{"to": list(one.to), "by": one.by, "at": one.at} for one in asked.handovers],
    }


def places(arguments: Any) -> tuple[list[str], list[str]]:
    """The hosts that arguments name, as policy finds them, and the texts that begin like a path; at most 100 of each.

    What a skill reaches besides they do not say.
    """
    paths = dict.fromkeys(
        text[:500] for text in _texts(arguments) if text.startswith(("/", "./", "../", "~/")) and "\n" not in text
    )
    return list(hosts_of(arguments))[:MOST_PLACES], list(paths)[:MOST_PLACES]


def _texts(value: Any) -> Iterator[str]:
    left = [value]
    while left:
        one = left.pop()
        if isinstance(one, str):
            yield one
        elif isinstance(one, dict):
            left.extend(reversed(one.values()))
        elif isinstance(one, list):
            left.extend(reversed(one))


def _answer(one: Any) -> dict[str, Any]:
    return {
        "handle": one.handle,
        "approved": one.approved,
        "stage": one.stage + 1,
        "channel": one.channel,
        "note": one.note,
        "at": one.at,
    }

"""Receipts: a decision as a signed document that is checked offline, also long after the platform is gone.

A receipt holds ids, digests, handles and times; never arguments or notes. Whoever has the arguments can compare their
digest with the receipt's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from agentos.control.approvals.model import Answer, Approval, ApprovalStatus, NotDecided, ReceiptRefused
from agentos.control.approvals.routing import Requirement, Stage, bound
from agentos.control.policy.model import EffectClass
from agentos.kernel.canonical import digest_bytes
from agentos.kernel.ids import OrgId
from agentos.kernel.signing import Signer, verify

TYPE: Final = "approval_receipt"
FORMAT: Final = 1


def receipt(signer: Signer, organization: OrgId, asked: Approval, answers: Sequence[Answer]) -> dict[str, Any]:
    """The signed receipt of a decision. Raises NotDecided (Conflict) while it waits."""
    if asked.status is ApprovalStatus.PENDING:
        raise NotDecided("the approval waits for people", where=asked.id, then="Ask again when it is decided.")
    return signer.sign(
        {
            "type": TYPE,
            "format": FORMAT,
            "organization": organization,
            "approval_id": asked.id,
            "run_id": asked.run_id,
            "step": asked.step,
            "deployment_id": asked.deployment_id,
            "agent_id": asked.agent_id,
            "agent_version": asked.version,
            "skill": {"name": asked.skill, "version": asked.skill_version, "digest": asked.skill_digest},
            "arguments_digest": asked.arguments_digest,
            "requirement": asked.requirement.document(),
            "bound": asked.bound,
            "policy_hash": asked.policy_hash,
            "started_by": list(asked.starters),
            "status": asked.status.value,
            "asked_at": _time(asked.asked_at),
            "decided_at": _time(asked.decided_at),
            "answers": [
                {
                    "person": one.handle,
                    "approved": one.approved,
                    "stage": one.stage,
                    "channel": one.channel,
                    "note_digest": digest_bytes(one.note.encode()) if one.note else None,
                    "at": _time(one.at),
                }
                for one in answers
            ],
        }
    )


def check(document: Mapping[str, Any], *, pinned: str | None = None) -> dict[str, Any]:
    """What a receipt says, when it is as it was signed and agrees with itself. Needs nothing but the document.

    ``pinned``: the public key that it must be signed by. Raises NotSigned, SignatureWrong, ForeignKey or ReceiptRefused
    (Invalid).
    """
    verify(document, pinned=pinned)
    if document.get("type") != TYPE or document.get("format") != FORMAT:
        raise ReceiptRefused("the document is signed, but is no receipt of an approval", where="type")
    try:
        _agrees(document)
        skill, signature = document["skill"], document["signature"]
        return {
            "valid": True,
            "approval_id": document["approval_id"],
            "organization": document["organization"],
            "status": document["status"],
            "skill": f"{skill['name']}@{skill['version']}",
            "arguments_digest": document["arguments_digest"],
            "decided_at": document["decided_at"],
            "approved_by": [one["person"] for one in document["answers"] if one["approved"]],
            "denied_by": [one["person"] for one in document["answers"] if not one["approved"]],
            "signed_by": signature["key_id"],
            "pinned": pinned is not None,
        }
    except (KeyError, TypeError, ValueError, AttributeError):
        raise ReceiptRefused("the receipt lacks parts that every receipt has") from None


def _agrees(document: Mapping[str, Any]) -> None:
    said, skill = document["requirement"], document["skill"]
    stages = tuple(Stage(tuple(one["approvers"]), one["needed"]) for one in said["stages"])
    requirement = Requirement(said["rule"], EffectClass[said["effect"]], stages)
    now = bound(
        arguments_digest=document["arguments_digest"],
        skill=skill["name"],
        skill_version=skill["version"],
        skill_digest=skill["digest"],
        version=document["agent_version"],
        requirement=requirement,
    )
    if document["bound"] not in (None, now):
        raise ReceiptRefused("the digest is not of what the receipt names", where="bound")
    if document["status"] != ApprovalStatus.APPROVED:
        return
    said_yes = [(one["person"], one["stage"]) for one in document["answers"] if one["approved"]]
    people = {person for person, _ in said_yes}
    enough = all(sum(place == number for _, place in said_yes) >= one.needed for number, one in enumerate(stages))
    if not enough or len(people) < requirement.needed or not all(one["approved"] for one in document["answers"]):
        raise ReceiptRefused("it was approved, but not by the people that it took", where="answers")
    if people & set(document["started_by"]):
        raise ReceiptRefused("somebody approved what they started", where="answers")


def _time(at: datetime | None) -> str | None:
    return None if at is None else at.astimezone(UTC).isoformat()

"""Links that one person answers one approval with, once, without a key: for a channel that carries no buttons.

A link is a token: what it is for as canonical JSON, and the platform's signature over that. It is checked before
anything is looked up, so a forged one costs no query. Looking at it (GET) changes nothing, as programs that read mail
look at links.
"""

from __future__ import annotations

import base64
import binascii
import json
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from agentos.control.approvals import service, store
from agentos.control.approvals.model import (
    Approval,
    ApprovalDecidedAlready,
    ApprovalStatus,
    Channel,
    Hides,
    LinkExpired,
    LinkForged,
    LinkUsed,
)
from agentos.control.approvals.service import nothing_hidden
from agentos.intake.identity.model import Person
from agentos.kernel import ids
from agentos.kernel.canonical import canonical
from agentos.kernel.errors import Invalid
from agentos.kernel.ids import OrgId
from agentos.kernel.signing import MEMBER, Signer, verify
from agentos.kernel.unit_of_work import UnitOfWork

TYPE: Final = "approval_link"
LASTS: Final = timedelta(hours=24)  # no longer than an approval waits
MOST_TOKEN: Final = 1000  # characters; ours have about 500
PATH: Final = "/api/v1/approvals/links/"


@dataclass(frozen=True, slots=True)
class Link:
    """What a link is for."""

    id: str
    organization: OrgId
    approval_id: str
    handle: str


async def create(
    work: UnitOfWork, signer: Signer, approval_id: str, *, handle: str, at: datetime, lasts: timedelta = LASTS
) -> str:
    """A token for this person to answer this approval with; its address is ``PATH`` and the token.

    Raises ApprovalUnknown (NotFound).
    """
    asked = await service.get(work, approval_id)
    link_id, expires_at = ids.new("lnk"), min(at + lasts, asked.expires_at)
    values = {"id": link_id, "approval_id": asked.id, "handle": handle, "made_at": at, "expires_at": expires_at}
    await store.add_link(work, values)
    told = {"type": TYPE, "id": link_id, "org": work.organization, "approval": asked.id, "person": handle}
    signed = signer.sign(told)
    return f"{_text(canonical(told))}.{_text(base64.b64decode(signed[MEMBER]['value']))}"


def read(signer: Signer, token: str) -> Link:
    """What a token is for, when this platform made it. Raises LinkForged (Forbidden)."""
    try:
        if len(token) > MOST_TOKEN:
            raise ValueError
        body, _, value = token.partition(".")
        told: dict[str, Any] = json.loads(_bytes(body))
        signature = {**signer.shown(), "value": base64.b64encode(_bytes(value)).decode()}
        verify({**told, MEMBER: signature})
        if told["type"] != TYPE:
            raise ValueError
        return Link(str(told["id"]), OrgId(told["org"]), str(told["approval"]), str(told["person"]))
    except (Invalid, ValueError, TypeError, KeyError, RecursionError):
        raise LinkForged(
            "this link was not made here, or was changed",
            then="Open it as it was sent to you, or answer with 'agentos approvals'.",
        ) from None


async def look(work: UnitOfWork, link: Link, *, at: datetime) -> tuple[Approval, Person]:
    """The approval of a link that still works, which waits, and the person whom the link is for. Changes nothing.

    Raises LinkForged (Forbidden); LinkUsed, LinkExpired, ApprovalDecidedAlready (Conflict); and PersonUnknown
    (NotFound) or NotAllowed (Forbidden) when the person may not answer now.
    """
    found = await store.link(work, link.id)
    if found is None or (found.approval_id, found.handle) != (link.approval_id, link.handle):
        raise LinkForged("this link is not known here", then="Answer with 'agentos approvals'.")
    if found.used_at is not None:
        raise LinkUsed("this link was answered with already", where=link.approval_id, then="Each works once.")
    if at >= found.expires_at:
        raise LinkExpired("the time of this link is over", where=link.approval_id, then="See 'agentos approvals show'.")
    person = await service.answerer(work, link.handle)
    asked = await service.get(work, link.approval_id)
    if asked.status is not ApprovalStatus.PENDING:
        raise ApprovalDecidedAlready(
            f"the approval is {asked.status} already", where=asked.id, then="See 'agentos approvals show'."
        )
    return asked, person


async def answer(
    work: UnitOfWork,
    link: Link,
    *,
    approved: bool,
    note: str,
    at: datetime,
    hides: Hides = nothing_hidden,
) -> Approval:
    """Answer with a link, which is used up by that. A refused answer leaves it as it was.

    Raises what ``look`` and ``service.answer_as`` raise.
    """
    await look(work, link, at=at)
    answered = await service.answer_as(
        work,
        link.approval_id,
        handle=link.handle,
        approved=approved,
        note=note,
        at=at,
        channel=Channel.LINK,
        hides=hides,
    )
    await store.use_link(work, link.id, at)
    return answered


def _text(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def _bytes(text: str) -> bytes:
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except binascii.Error:
        raise ValueError from None

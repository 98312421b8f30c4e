"""Ids that sort by the time they were made and say what they name: ``run_01m7y3jdhbeycse6s7f0x9362p``.

They are TypeIDs: a prefix and a UUIDv7. Within a process they rise even when the clock is set back.
"""

from __future__ import annotations

import re
from typing import Final, Literal, NewType

from typeid import TypeID

from agentos.kernel.errors import Invalid

OrgId = NewType("OrgId", str)  # chosen by people, e.g. "acme"
AgentId = NewType("AgentId", str)  # chosen by people, e.g. "business_plan_agent_009"
PersonId = NewType("PersonId", str)
KeyId = NewType("KeyId", str)
DeploymentId = NewType("DeploymentId", str)
RunId = NewType("RunId", str)
ApprovalId = NewType("ApprovalId", str)
DraftId = NewType("DraftId", str)
SessionId = NewType("SessionId", str)
TriggerId = NewType("TriggerId", str)
FiringId = NewType("FiringId", str)
SubscriptionId = NewType("SubscriptionId", str)
DeliveryId = NewType("DeliveryId", str)
ThreadId = NewType("ThreadId", str)
MessageId = NewType("MessageId", str)
NotificationId = NewType("NotificationId", str)
EvalId = NewType("EvalId", str)
GateId = NewType("GateId", str)
FeedbackId = NewType("FeedbackId", str)
FreezeId = NewType("FreezeId", str)
RecommendationId = NewType("RecommendationId", str)

Prefix = Literal[
    "person",
    "key",
    "dep",
    "run",
    "ask",
    "replay",
    "apr",
    "draft",
    "req",
    "trg",
    "firing",
    "sub",
    "dlv",
    "ses",
    "thr",
    "msg",
    "ntf",
    "lnk",
    "stop",
    "eval",
    "gate",
    "fbk",
    "frz",
    "rec",
]

_FORM: Final = re.compile(r"[a-z]+_[0-7][0-9a-hjkmnp-tv-z]{25}")  # TypeID: UUIDv7 in Crockford's base 32
_NAME: Final = re.compile(r"[a-z][a-z0-9_-]{0,62}")


class MalformedId(Invalid):
    """An id that is not of the form its kind has."""

    code = "malformed_id"


def new(prefix: Prefix) -> str:
    """Make an id that sorts after every id this process made before."""
    return str(TypeID(prefix=prefix))


def checked(prefix: Prefix, text: str) -> str:
    """Return ``text`` when it is an id of this kind. Raises MalformedId (Invalid)."""
    if not (_FORM.fullmatch(text) and text.startswith(prefix + "_")):
        raise MalformedId(f"'{text[:64]}' is not an id of the form '{prefix}_…'", then="Copy the id from a listing.")
    return text


def checked_name(text: str, *, what: str) -> str:
    """Return ``text`` when it is a name people may choose: a-z first, then a-z, 0-9, _ and -, 63 at most.

    Raises MalformedId (Invalid).
    """
    if not _NAME.fullmatch(text):
        raise MalformedId(
            f"{what} '{text[:64]}' is not a name",
            then="Use a lower-case letter, then letters, digits, '_' or '-', 63 characters at most.",
        )
    return text

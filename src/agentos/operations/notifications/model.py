"""Messages to people: what they are about, how they are put, and when they are tried again."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import ClassVar, Final

from agentos.kernel.backoff import Backoff
from agentos.kernel.errors import Conflict, Invalid, NotFound
from agentos.kernel.facts import Fact
from agentos.kernel.ids import NotificationId, OrgId, PersonId

# A question waits for hours at most, so the first tries follow each other quickly; a mail server that is restarted is
# back within minutes. What is held waits for a person to set a secret; each look at it makes another link.
BACKOFF: Final = Backoff(
    steps=tuple(timedelta(seconds=s) for s in (5, 30, 120, 600, 1800)),
    tried_for=timedelta(hours=24),
    held_for=timedelta(minutes=5),
    jitter=0.2,
)


class NotificationUnknown(NotFound):
    """No such message in this organization."""

    code = "notification_unknown"


class NotificationNotDead(Conflict):
    """Only a message that was given up can be sent again by hand."""

    code = "notification_not_dead"


class BadNotificationState(Invalid):
    """No message to a person is in such a state."""

    code = "bad_notification_state"


class Medium(StrEnum):
    """A way to a person."""

    CONSOLE = "console"
    EMAIL = "email"
    SLACK = "slack"


class NotificationKind(StrEnum):
    """What a message says."""

    ASKED = "asked"  # a call waits for an answer
    REMINDED = "reminded"  # it still does
    ESCALATED = "escalated"  # it still does, and those who were asked first let their time pass
    DECIDED = "decided"  # it waits no more
    ANSWERED = "answered"  # what became of the person's own answer
    WARNED = "warned"  # something comes near a limit
    ALERTED = "alerted"  # a limit was reached or passed

    @property
    def asks(self) -> bool:
        """Whether it asks for an answer, and so has nothing to say once there is one."""
        return self in (NotificationKind.ASKED, NotificationKind.REMINDED, NotificationKind.ESCALATED)

    @property
    def alerts(self) -> bool:
        """Whether it hands on what the platform said in a thread that asks nothing."""
        return self in (NotificationKind.WARNED, NotificationKind.ALERTED)


class NotificationState(StrEnum):
    """Where a message stands."""

    PENDING = "pending"
    SENT = "sent"
    MOOT = "moot"  # there was nothing left to say when it came to be sent
    DEAD = "dead"


class Outcome(StrEnum):
    """What one try came to."""

    SENT = "sent"
    RETRIED = "retried"
    HELD = "held"  # nothing was sent: a secret is missing or refused
    MOOT = "moot"
    GIVEN_UP = "given_up"
    LATE = "late"  # another worker has it: this one's lease had run out


@dataclass(frozen=True, slots=True)
class Notification:
    """One message to one person by one channel, as everybody may see it: no address, no content."""

    id: NotificationId
    kind: NotificationKind
    about: str
    thread_id: str
    person: str
    channel: Medium
    state: NotificationState
    due_at: datetime
    tries: int
    last_try_at: datetime | None
    reason: str
    said: str
    made_at: datetime
    ended_at: datetime | None


@dataclass(frozen=True, slots=True)
class Claimed:
    """A message that this worker alone may send until its lease runs out."""

    organization: OrgId
    id: NotificationId
    kind: NotificationKind
    about: str
    thread_id: str
    message_id: str
    person_id: PersonId
    channel: Medium
    tries: int  # before this one
    first_try_at: datetime
    claimed_at: datetime
    claim: str


@dataclass(frozen=True, slots=True)
class Letter:
    """A message as it is sent. ``id`` is the same on every try.

    ``shown``: the arguments, where all of them may be shown in this channel; then it may be answered there.
    ``receipts``: earlier messages that it takes the place of, as the channel calls them.
    """

    id: NotificationId
    organization: OrgId
    kind: NotificationKind
    to: str  # the address, or the person's handle on the console
    subject: str
    lines: tuple[str, ...]
    link: str
    about: str
    number: int
    shown: str = ""
    token: str = ""  # of the Slack workspace, by reference
    receipts: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of one try to send. ``final``: trying again cannot help; ``held``: a person has to act first."""

    sent: bool
    reason: str = ""
    said: str = ""
    receipt: str = ""
    retry_after: timedelta | None = None
    held: bool = False
    final: bool = False


@dataclass(frozen=True, slots=True)
class NotificationGivenUp(Fact):
    """A person could not be told. It stays as a dead letter, which somebody may send again."""

    key_field: ClassVar[str] = "notification_id"
    notification_id: str
    about: str
    channel: str
    tries: int
    reason: str


@dataclass(frozen=True, slots=True)
class NotificationRetried(Fact):
    """Somebody had a dead letter sent again."""

    key_field: ClassVar[str] = "notification_id"
    notification_id: str
    by: str

"""Who is told of which facts, the form in which they are told, and when a delivery is tried again."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from fnmatch import fnmatchcase
from typing import Any, ClassVar, Final

from agentos.kernel.backoff import Backoff
from agentos.kernel.errors import Conflict, Invalid, NotFound
from agentos.kernel.facts import Fact
from agentos.kernel.ids import DeliveryId, OrgId, SubscriptionId

MOST_SUBSCRIPTIONS: Final = 50  # of one organization: each costs a row for each fact that it wants
MOST_WANTS: Final = 100
MOST_URL: Final = 2048  # what browsers and proxies take for certain

# The waits follow the schedule that Standard Webhooks advises. What is held waits for a person to set the secret:
# nothing is sent before, so looking often troubles nobody.
BACKOFF: Final = Backoff(
    steps=tuple(timedelta(seconds=s) for s in (5, 300, 1800, 7200, 18_000, 36_000)),
    tried_for=timedelta(hours=24),
    held_for=timedelta(minutes=5),
    jitter=0.2,
)

_WANT: Final = re.compile(r"[A-Za-z0-9*]{1,64}")
_SECRET: Final = re.compile(r"secret://[A-Za-z0-9_-]{1,64}")
_GONE: Final = 410


class BadSubscription(Invalid):
    """A subscription that nothing could ever be sent for."""

    code = "bad_subscription"


class SubscriptionUnknown(NotFound):
    """No such subscription in this organization."""

    code = "subscription_unknown"


class SubscriptionKnown(Conflict):
    """The organization has a subscription of this name already."""

    code = "subscription_known"


class SubscriptionsFull(Conflict):
    """The organization has as many subscriptions as it can have."""

    code = "subscriptions_full"


class DeliveryUnknown(NotFound):
    """The subscription has no such delivery."""

    code = "delivery_unknown"


class DeliveryNotDead(Conflict):
    """Only a delivery that was given up can be tried again by hand."""

    code = "delivery_not_dead"


class SubscriptionDisabled(Conflict):
    """Nothing is sent for a subscription that is not enabled."""

    code = "subscription_disabled"


class DeliveryState(StrEnum):
    """Where a delivery stands."""

    PENDING = "pending"
    DELIVERED = "delivered"
    DEAD = "dead"


class Outcome(StrEnum):
    """What one try came to."""

    DELIVERED = "delivered"
    RETRIED = "retried"
    HELD = "held"  # nothing was sent: the secret is missing or malformed
    GONE = "gone"  # 410: the subscription is disabled
    GIVEN_UP = "given_up"
    LATE = "late"  # another worker has it: this one's lease had run out


@dataclass(frozen=True, slots=True)
class Subscription:
    """Who is told of which facts."""

    id: SubscriptionId
    name: str
    url: str
    wants: tuple[str, ...]
    secret: str
    enabled: bool
    reason: str
    created_by: str
    created_at: datetime
    since: int  # transactions from this position on began after it

    def takes(self, fact: Fact, position: int, at: datetime) -> bool:
        """Whether it is to be told of this fact, of the transaction at that position and of that time.

        Nobody is told of a delivery that was given up and was itself to tell of one, nor of their own: with two broken
        receivers that would never end.
        """
        if not self.enabled or (position < self.since and at < self.created_at):
            return False
        if isinstance(fact, DeliveryGivenUp) and (
            fact.subscription_id == self.id or fact.fact == DeliveryGivenUp.__name__
        ):
            return False
        return any(fnmatchcase(fact.name, want) for want in self.wants)


@dataclass(frozen=True, slots=True)
class Delivery:
    """One fact that is owed to one subscription."""

    id: DeliveryId
    subscription_id: SubscriptionId
    event_id: str
    fact: str
    key: str
    state: DeliveryState
    due_at: datetime
    tries: int
    first_try_at: datetime | None
    last_try_at: datetime | None
    status: int | None
    reason: str
    said: str
    made_at: datetime
    ended_at: datetime | None


@dataclass(frozen=True, slots=True)
class Claimed:
    """A delivery that this worker alone may send until its lease runs out."""

    organization: OrgId
    id: DeliveryId
    subscription_id: SubscriptionId
    url: str
    secret: str
    event_id: str
    fact: str
    event: str
    tries: int  # before this one
    first_try_at: datetime
    claimed_at: datetime
    claim: str


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of one try to send. ``status`` is None when no answer came."""

    status: int | None
    reason: str = ""
    said: str = ""
    retry_after: timedelta | None = None
    held: bool = False  # nothing was sent, and a person has to act first

    @property
    def delivered(self) -> bool:
        """Whether the receiver took it."""
        return self.status is not None and 200 <= self.status < 300

    @property
    def gone(self) -> bool:
        """Whether the receiver wants nothing any more."""
        return self.status == _GONE


@dataclass(frozen=True, slots=True)
class SubscriptionAdded(Fact):
    """An outside system is told of facts from now on."""

    key_field: ClassVar[str] = "subscription_id"
    subscription_id: str
    subscription: str
    host: str
    wants: list[str]
    enabled: bool
    by: str


@dataclass(frozen=True, slots=True)
class SubscriptionChanged(Fact):
    """A subscription is another now. ``reason`` is set where the platform disabled it, ``by`` is empty then."""

    key_field: ClassVar[str] = "subscription_id"
    subscription_id: str
    subscription: str
    host: str
    wants: list[str]
    enabled: bool
    reason: str
    by: str


@dataclass(frozen=True, slots=True)
class SubscriptionRemoved(Fact):
    """An outside system is told of nothing more; what was owed to it is forgotten."""

    key_field: ClassVar[str] = "subscription_id"
    subscription_id: str
    subscription: str
    by: str


@dataclass(frozen=True, slots=True)
class DeliveryGivenUp(Fact):
    """A fact could not be told. It stays as a dead letter, which a person may send again."""

    key_field: ClassVar[str] = "delivery_id"
    delivery_id: str
    subscription_id: str
    event_id: str
    fact: str
    tries: int
    reason: str


@dataclass(frozen=True, slots=True)
class DeliveryRetried(Fact):
    """A person had a dead letter sent again."""

    key_field: ClassVar[str] = "delivery_id"
    delivery_id: str
    subscription_id: str
    by: str


def checked_wants(wants: Iterable[str]) -> tuple[str, ...]:
    """The names and globs, sorted, each once. Raises BadSubscription (Invalid) when one can never match."""
    found = tuple(sorted(set(wants)))
    if not found or len(found) > MOST_WANTS:
        raise BadSubscription(
            f"a subscription names 1 to {MOST_WANTS} facts", where="facts", then="'*' is every fact, 'Run*' a family."
        )
    for want in found:
        if not _WANT.fullmatch(want) or not any(fnmatchcase(name, want) for name in Fact.kinds):
            raise BadSubscription(
                f"no fact is called '{want[:64]}'", where="facts", then="Names are as in RunEnded or Approval*."
            )
    return found


def checked_secret(reference: str) -> str:
    """The reference, when it is one. Raises BadSubscription (Invalid), which does not repeat what was given."""
    if not _SECRET.fullmatch(reference):
        raise BadSubscription(
            "the secret is not named by reference", where="secret", then="Write secret://NAME; its value stays outside."
        )
    return reference


def event(organization: OrgId, event_id: str, fact: Fact, at: datetime) -> str:
    """A fact as a CloudEvent 1.0 in structured JSON."""
    return written_event(organization, event_id, fact.name, fact.key, json.loads(fact.body()), at)


def written_event(
    organization: OrgId, event_id: str, kind: str, subject: str, data: dict[str, Any], at: datetime
) -> str:
    """A CloudEvent 1.0 in structured JSON."""
    told = cloud_event(organization, event_id, kind, subject, data, at)
    return json.dumps(told, ensure_ascii=False, separators=(",", ":"))


def cloud_event(
    organization: OrgId, event_id: str, kind: str, subject: str, data: dict[str, Any], at: datetime
) -> dict[str, Any]:
    """A CloudEvent 1.0."""
    told = {
        "specversion": "1.0",
        "id": event_id,
        "source": f"/agentos/{organization}",
        "type": f"agentos.{kind}",
        "subject": subject,
        "time": at.astimezone(UTC).isoformat().replace("+00:00", "Z"),
        "datacontenttype": "application/json",
        "data": data,
    }
    if not subject:  # the specification allows none, but no empty one
        del told["subject"]
    return told

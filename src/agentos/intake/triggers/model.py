"""Triggers, what they fire on, and what becomes of a firing."""

from __future__ import annotations

import fnmatch
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, ClassVar, Final

from agentos.kernel.errors import Conflict, Forbidden, Invalid, NotFound
from agentos.kernel.facts import Fact
from agentos.kernel.ids import FiringId, OrgId, TriggerId

MOST_TRIGGERS: Final = 1000  # of an organization
MOST_QUEUED: Final = 1000  # firings that wait for runs of their trigger to end; more are skipped and say so


class TriggerUnknown(NotFound):
    """No such trigger in this organization."""

    code = "trigger_unknown"


class TriggerKnown(Conflict):
    """The organization has a trigger of this name already."""

    code = "trigger_known"


class TriggerDisabled(Conflict):
    """The trigger is disabled and fires on nothing."""

    code = "trigger_disabled"


class TooManyTriggers(Conflict):
    """The organization has as many triggers as it can have."""

    code = "too_many_triggers"


class BadTrigger(Invalid):
    """What was said of a trigger does not make one."""

    code = "bad_trigger"


class BadEvent(Invalid):
    """What came is no CloudEvent 1.0 with a JSON payload."""

    code = "bad_event"


class BadSignature(Forbidden):
    """The webhook is not signed as agreed, or is too old."""

    code = "bad_signature"
    status = 401


class Kind(StrEnum):
    """What a trigger fires on."""

    SCHEDULE = "schedule"
    WEBHOOK = "webhook"
    EVENT = "event"


class Overlap(StrEnum):
    """What to do with a firing while as many runs of its trigger are open as may be."""

    ALLOW = "allow"  # start it all the same
    QUEUE = "queue"  # start it when one of them has ended, in the order of their moments
    SKIP = "skip"  # do not start it
    REPLACE = "replace"  # cancel the oldest of them and start it


class State(StrEnum):
    """What became of a firing."""

    FIRED = "fired"  # it is about to be admitted
    QUEUED = "queued"
    ADMITTED = "admitted"  # its run is open
    ENDED = "ended"
    SKIPPED = "skipped"
    WITHDRAWN = "withdrawn"  # the trigger was disabled before the run was admitted
    REFUSED = "refused"  # the run could not be admitted; the reason is its error's code


@dataclass(frozen=True, slots=True)
class Schedule:
    """By the clock: five fields of cron in a time zone.

    ``catch_up``: a moment that passed while nothing could fire is made good when it is no older than this.
    """

    cron: str
    time_zone: str = "UTC"
    catch_up: timedelta = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class Webhook:
    """By a call that is signed by Standard Webhooks with this secret."""

    secret: str  # by reference: secret://name


@dataclass(frozen=True, slots=True)
class Pattern:
    """By an event whose attributes match these globs."""

    type: str = "*"
    source: str = "*"
    subject: str = "*"

    def matches(self, event: Event) -> bool:
        """Whether all three match; an event without a subject has the empty one."""
        return all(
            fnmatch.fnmatchcase(said, wanted)
            for said, wanted in ((event.type, self.type), (event.source, self.source), (event.subject, self.subject))
        )

    @property
    def literal(self) -> int:
        """How much it says: its characters that stand for themselves."""
        return sum(char not in "*?" for char in self.type + self.source + self.subject)


@dataclass(frozen=True, slots=True)
class Event:
    """A CloudEvent, or a webhook's call in the same form."""

    id: str
    source: str
    type: str
    subject: str = ""
    time: datetime | None = None
    data: Any = None

    def document(self) -> dict[str, Any]:
        """What the paths of ``take`` look into."""
        return {
            "id": self.id,
            "source": self.source,
            "type": self.type,
            "subject": self.subject,
            "time": None if self.time is None else self.time.isoformat(),
            "data": self.data,
        }


@dataclass(frozen=True, slots=True)
class Wanted:
    """What somebody says of a trigger that is to be."""

    name: str
    agent_id: str
    environment: str
    on: Schedule | Webhook | Pattern
    input: Mapping[str, Any] = field(default_factory=dict)
    take: Mapping[str, str] = field(default_factory=dict)
    overlap: Overlap = Overlap.ALLOW
    most_open: int = 1
    priority: int = 0
    is_enabled: bool = True


@dataclass(frozen=True, slots=True)
class Trigger:
    """A trigger as stored."""

    id: TriggerId
    organization: OrgId
    name: str
    agent_id: str
    environment: str
    on: Schedule | Webhook | Pattern
    input: Mapping[str, Any]
    take: Mapping[str, str]
    overlap: Overlap
    most_open: int
    priority: int
    is_enabled: bool
    next_at: datetime | None
    changes: int
    created_by: str
    created_at: datetime

    @property
    def kind(self) -> Kind:
        """What it fires on."""
        return kind_of(self.on)


@dataclass(frozen=True, slots=True)
class Firing:
    """One firing of a trigger."""

    id: FiringId
    trigger_id: TriggerId
    due_at: datetime
    fired_at: datetime
    input: bytes
    request_id: str
    state: State
    reason: str
    run_id: str | None


def kind_of(on: Schedule | Webhook | Pattern) -> Kind:
    """The kind that something is fired on."""
    return {Schedule: Kind.SCHEDULE, Webhook: Kind.WEBHOOK, Pattern: Kind.EVENT}[type(on)]


def best(triggers: list[Trigger], event: Event) -> list[Trigger]:
    """The triggers that match an event, the one that fires first.

    The highest priority wins; among equals the pattern that says most; among those the oldest.
    """
    matching = [one for one in triggers if isinstance(one.on, Pattern) and one.on.matches(event)]
    return sorted(matching, key=lambda one: (-one.priority, -_said(one), one.id))


def _said(one: Trigger) -> int:
    return one.on.literal if isinstance(one.on, Pattern) else 0


def spec_of(on: Schedule | Webhook | Pattern) -> str:
    """What it fires on, as stored and shown."""
    match on:
        case Schedule():
            said = {"cron": on.cron, "time_zone": on.time_zone, "catch_up_seconds": on.catch_up.total_seconds()}
        case Webhook():
            said = {"secret": on.secret}
        case Pattern():
            said = {"type": on.type, "source": on.source, "subject": on.subject}
    return json.dumps(said)


def read_spec(kind: Kind, said: Mapping[str, Any]) -> Schedule | Webhook | Pattern:
    """What was stored."""
    match kind:
        case Kind.SCHEDULE:
            return Schedule(said["cron"], said["time_zone"], timedelta(seconds=said["catch_up_seconds"]))
        case Kind.WEBHOOK:
            return Webhook(said["secret"])
        case Kind.EVENT:
            return Pattern(said["type"], said["source"], said["subject"])


@dataclass(frozen=True, slots=True)
class TriggerAdded(Fact):
    """A trigger was made."""

    key_field: ClassVar[str] = "trigger_id"
    trigger_id: str
    trigger: str  # its name
    agent_id: str
    by: str


@dataclass(frozen=True, slots=True)
class TriggerChanged(Fact):
    """A trigger was enabled, disabled or changed. ``cancel_runs``: the open runs that it started are to end."""

    key_field: ClassVar[str] = "trigger_id"
    trigger_id: str
    trigger: str  # its name
    is_enabled: bool
    withdrawn: int
    cancel_runs: bool
    by: str


@dataclass(frozen=True, slots=True)
class TriggerRemoved(Fact):
    """A trigger is gone, and its firings with it."""

    key_field: ClassVar[str] = "trigger_id"
    trigger_id: str
    trigger: str  # its name
    by: str


@dataclass(frozen=True, slots=True)
class TriggerFired(Fact):
    """A trigger fired: a run is to be admitted, if the trigger still says so then."""

    key_field: ClassVar[str] = "trigger_id"
    trigger_id: str
    firing_id: str


@dataclass(frozen=True, slots=True)
class FiringsMissed(Fact):
    """Moments of a schedule that did not fire: older than its catch-up reaches, or without a canonical input."""

    key_field: ClassVar[str] = "trigger_id"
    trigger_id: str
    count: int
    first: str
    last: str

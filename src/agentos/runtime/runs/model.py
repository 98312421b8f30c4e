"""Runs, their states, and what happens to them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, ClassVar, Final

from agentos.control.policy.model import Tier
from agentos.control.stops.model import Subject
from agentos.kernel.errors import Bug, Conflict, Exhausted, Forbidden, Invalid, NotFound, Unavailable
from agentos.kernel.facts import Fact
from agentos.kernel.ids import DeploymentId, DraftId, OrgId, RunId

FORMAT: Final = 1  # of the loop's journal; code reads every format that is still parked (tests/journals/)


class RunUnknown(NotFound):
    """No such run in this organization."""

    code = "run_unknown"


class RunEndedAlready(Conflict):
    """The run is over; it takes no more orders."""

    code = "run_ended"


class RunNotPaused(Conflict):
    """Only a paused run can be resumed."""

    code = "run_not_paused"


class RequestUnknown(NotFound):
    """No run of this organization came of such a request."""

    code = "request_unknown"


class InputRefused(Invalid):
    """The input does not fit the version's input schema."""

    code = "input_refused"


class TriggerNotTaken(Forbidden):
    """The version says by which triggers its runs start, and this is none of them."""

    code = "trigger_not_taken"


class DraftUnknown(NotFound):
    """No such draft in this organization."""

    code = "draft_unknown"


class DraftSettled(Conflict):
    """The draft was submitted or discarded already."""

    code = "draft_settled"


class StepNotUncertain(Conflict):
    """The step has a result, or the run does not wait for a person to settle it."""

    code = "step_not_uncertain"


class RunTimedOut(Exhausted):
    """The run used up the wall time that its version allows."""

    code = "run_timed_out"


class TurnsUsedUp(Exhausted):
    """The run used up the turns or steps that its version allows."""

    code = "run_turns_used_up"


class TokensUsedUp(Exhausted):
    """The run used up the tokens that its version allows."""

    code = "run_tokens_used_up"


class DeniedAndStopped(Forbidden):
    """Policy denied a call and the version says to stop then."""

    code = "run_denied"


class AnswerCut(Exhausted):
    """The model's answer was cut at its token limit."""

    code = "model_answer_cut"


class SegmentLost(Unavailable):
    """Another attempt owns the run now; this one writes nothing more."""

    code = "segment_lost"


class StopsUnreadable(Unavailable):
    """Whether a stop holds the run cannot be read, so no step of it begins."""

    code = "stops_unreadable"


class TooManyMessages(Exhausted):
    """The run was sent as many messages as it reads."""

    code = "run_messages_used_up"


class SchedulesPaused(Conflict):
    """The deployment is in degraded mode, where nothing starts by the clock."""

    code = "schedules_paused"


class TooManyHeld(Exhausted):
    """A stop holds the deployment, and as many runs wait for its end as may."""

    code = "too_many_held"


class JournalTooNew(Bug):
    """The journal was written by a newer release than this worker's."""

    code = "journal_too_new"


class RunStatus(StrEnum):
    """Where a run stands."""

    ACCEPTED = "accepted"
    RUNNING = "running"
    WAITING_APPROVAL = "waiting_approval"
    PAUSED = "paused"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    BLOCKED = "blocked"

    @property
    def terminal(self) -> bool:
        """Whether the run is over."""
        return self in TERMINAL


TERMINAL: Final = frozenset({RunStatus.COMPLETED, RunStatus.FAILED, RunStatus.CANCELLED, RunStatus.BLOCKED})


class Reason(StrEnum):
    """Why a run that is not over does not move."""

    APPROVAL = "approval"  # a person must say yes or no
    UNCERTAIN_EFFECT = "uncertain_effect"  # a person must say whether an effect happened
    SETTLING = "settling"  # a call may still be on the wire; its end is known after a bounded time
    MODEL = "model"  # the model is away or refuses for now
    PAUSED = "paused"  # somebody paused the run
    DEPLOYMENT_PAUSED = "deployment_paused"  # somebody paused the deployment; effects wait
    SKILL = "skill"  # no worker has the very skill that the version pinned
    STOPPED = "stopped"  # a stop holds it


@dataclass(frozen=True, slots=True)
class Token:
    """Who may write a run's journal: the latest attempt of the latest segment. It only rises."""

    segment: int
    attempt: int


@dataclass(frozen=True, slots=True)
class Waiting:
    """What a run waits for: woken by ``wake``, or by itself after ``seconds``."""

    reason: Reason
    wake: str
    seconds: float | None = None
    detail: str = ""
    step: str = ""
    tries: int = 0


@dataclass(frozen=True, slots=True)
class Used:
    """Tokens that a run's models used; None where a provider did not say of each. ``stubbed``: one was the stub."""

    input: int | None
    output: int | None
    stubbed: bool


@dataclass(frozen=True, slots=True)
class Run:
    """A run as stored."""

    organization: OrgId
    id: RunId
    deployment_id: DeploymentId
    agent_id: str
    category: str
    revision: int
    version: str
    status: RunStatus
    waiting: dict[str, Any] | None
    ordered: str
    orders: int
    token: Token
    format: int
    inline: bool
    messages: int  # that people wrote to it so far
    draft_id: DraftId | None
    firing_id: str | None
    requested_by: str
    request_id: str
    input: bytes
    output: bytes | None
    problem: dict[str, Any] | None
    accepted_at: datetime
    started_at: datetime | None
    ended_at: datetime | None
    deadline: datetime

    @property
    def subject(self) -> Subject:
        """Whom stops are about: the run's deployment."""
        return Subject(self.deployment_id, self.agent_id, self.category)


@dataclass(frozen=True, slots=True)
class Claimed:
    """A run in the hands of one attempt, with what its decisions stand on."""

    run: Run
    tier: Tier
    deployment_state: str
    epochs: dict[str, int]
    seconds_left: float  # until the deadline, by the database's clock


@dataclass(frozen=True, slots=True)
class RunAccepted(Fact):
    """A run was admitted and waits for a worker."""

    key_field: ClassVar[str] = "run_id"
    run_id: str
    deployment_id: str
    version: str
    inline: bool
    by: str = ""  # who asked for it; empty: an earlier release did not tell


@dataclass(frozen=True, slots=True)
class RunOrdered(Fact):
    """Somebody ordered a run to pause, to cancel or to resume."""

    key_field: ClassVar[str] = "run_id"
    run_id: str
    order: str
    by: str
    wake: str


@dataclass(frozen=True, slots=True)
class RunEnded(Fact):
    """A run is over."""

    key_field: ClassVar[str] = "run_id"
    run_id: str
    deployment_id: str
    agent_id: str
    version: str
    status: str
    code: str
    firing_id: str = ""  # of the trigger that started it


@dataclass(frozen=True, slots=True)
class StepsJournaled(Fact):
    """What was decided and done of skills, written with the journal's rows in their very statement (journal_append).

    A step has its decision, the digests of its arguments and of what came of it, and the secrets that it was given, by
    name. For the ledger: nobody is told of it outside.
    """

    key_field: ClassVar[str] = "run_id"
    run_id: str
    deployment_id: str
    segment: int
    attempt: int
    steps: list[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class MessagesUnread(Fact):
    """A run ended with so many messages that it has not answered to, the last ones that it was handed."""

    key_field: ClassVar[str] = "run_id"
    run_id: str
    unread: int


@dataclass(frozen=True, slots=True)
class EffectUncertain(Fact):
    """Nobody but a person can tell whether an effect happened."""

    key_field: ClassVar[str] = "run_id"
    run_id: str
    step: str
    skill: str


@dataclass(frozen=True, slots=True)
class EffectSettled(Fact):
    """A person said whether an uncertain effect happened."""

    key_field: ClassVar[str] = "run_id"
    run_id: str
    step: str
    happened: bool
    by: str
    wake: str


@dataclass(frozen=True, slots=True)
class DraftMade(Fact):
    """A call became a draft, because the tier in force lets the agent only recommend."""

    key_field: ClassVar[str] = "run_id"
    run_id: str
    draft_id: str
    skill: str
    arguments_digest: str


@dataclass(frozen=True, slots=True)
class DraftSubmitted(Fact):
    """A person submitted a draft; a run of its own makes the call, under approval."""

    key_field: ClassVar[str] = "run_id"
    run_id: str
    draft_id: str
    submitted_run: str
    by: str


@dataclass(frozen=True, slots=True)
class DraftDiscarded(Fact):
    """A person closed a draft for good."""

    key_field: ClassVar[str] = "run_id"
    run_id: str
    draft_id: str
    by: str

"""Data sets, evals over them, and what is said of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, ClassVar, Final

from agentos.kernel.errors import Bug, Conflict, Forbidden, Invalid, NotFound, Unavailable
from agentos.kernel.facts import Fact
from agentos.kernel.ids import EvalId

MOST_FILE_BYTES: Final = 8 * 1024 * 1024  # 8,000 cases of a kilobyte
MOST_CASES: Final = 10_000
MOST_CASE_BYTES: Final = 256 * 1024  # a quarter of what a request may hold
MOST_SCORERS: Final = 8  # of one case
MOST_FIXTURES: Final = 100  # of one case
MOST_TAGS: Final = 20
MOST_BROKEN: Final = 1000  # lines that are told; more than anyone mends in one go
MOST_REPEATS: Final = 20
MOST_CONCURRENCY: Final = 64  # cases at once, of one eval
CONCURRENCY: Final = 16
MOST_TASKS: Final = 100_000  # cases times repeats times versions
MOST_UNFINISHED: Final = 20  # evals of one organization
MOST_DIFFERENCES: Final = 200  # cases that a comparison tells; all of them are in the list of outcomes
MOST_OUTPUT_BYTES: Final = 64 * 1024  # of an output that is kept; scorers see the whole

# How long an eval waits for a model, a skill or a database that is away; after it the eval has failed, to be resumed.
PATIENCE: Final = timedelta(minutes=15)

# Attempts whose worker was lost until the eval has failed, as each may pay again for what it had under way; and so many
# more each time somebody resumes it.
MOST_LOST: Final = 5

EVERY: Final = "all"  # the figure of cases that passed every scorer


class DatasetUnknown(NotFound):
    """No such data set in this organization."""

    code = "dataset_unknown"


class DatasetBroken(Invalid):
    """A file that holds no case that could be executed; its lines are named with their reasons."""

    code = "dataset_broken"


class DatasetTooLarge(Invalid):
    """A file of more bytes, or more cases, than a data set takes."""

    code = "dataset_too_large"


class EvalUnknown(NotFound):
    """No such eval in this organization."""

    code = "eval_unknown"


class EvalTooLarge(Invalid):
    """Cases times repeats times versions are more than one eval executes."""

    code = "eval_too_large"


class BadEval(Invalid):
    """An eval that says nothing: a version against itself."""

    code = "bad_eval"


class EvalEndedAlready(Conflict):
    """The eval is over; it can neither be cancelled nor go on."""

    code = "eval_ended"


class TooManyEvals(Conflict):
    """As many evals of the organization are under way as may be."""

    code = "too_many_evals"


class EvalHeld(Forbidden):
    """A stop withholds the agent's model calls; the eval goes on when it is lifted and the eval is resumed."""

    code = "eval_held"


class EvalWaits(Unavailable):
    """A case cannot go on for now: its model is away, or the worker shuts down."""

    code = "eval_waits"


class EvalLosesWorkers(Bug):
    """Workers were lost in the middle of the eval, one after another; one of its cases may be what ends them."""

    code = "eval_loses_workers"


class EvalReachedOut(Bug):
    """A case reached for what it must not touch."""

    code = "eval_reached_out"


class EvalStatus(StrEnum):
    """Where an eval stands."""

    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"  # it can be resumed, and goes on where it was
    CANCELLED = "cancelled"


class Side(StrEnum):
    """Which of the two versions: the one that is examined, or the one that it is compared with."""

    CANDIDATE = "candidate"
    AGAINST = "against"


@dataclass(frozen=True, slots=True)
class Broken:
    """A line that is no case, and why."""

    line: int  # from 1, as an editor counts
    reason: str


@dataclass(frozen=True, slots=True)
class Fixture:
    """What a call that only reads is answered with. Without arguments: every call of the skill."""

    skill: str
    arguments: Any  # a part of the call's, as the scorer 'subset' has it; None: any
    answer: Any
    error: str  # the message of the error that is told instead; empty: the answer is


@dataclass(frozen=True, slots=True)
class Scorer:
    """How an answer is measured."""

    name: str
    kind: str
    options: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Case:
    """One line of a data set."""

    number: int  # from 0, among the good lines
    line: int
    id: str
    input: Any
    expected: Any
    scorers: tuple[Scorer, ...]
    fixtures: tuple[Fixture, ...] = ()
    tags: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Dataset:
    """A file of cases, named by its content."""

    name: str
    hash: str  # sha256:… of its bytes
    cases: int
    broken: tuple[Broken, ...]  # lines that are no cases; until they are mended no gate takes a result over them
    size: int
    added_by: str
    added_at: datetime


@dataclass(frozen=True, slots=True)
class Score:
    """What one scorer says of one answer."""

    value: float  # 0…1
    passed: bool
    why: str = ""

    def shown(self) -> dict[str, Any]:
        """The score as JSON data."""
        return {"value": round(self.value, 6), "passed": self.passed} | ({"why": self.why} if self.why else {})


@dataclass(frozen=True, slots=True)
class Task:
    """One case of one version, executed once."""

    side: Side
    number: int
    repeat: int

    @property
    def key(self) -> str:
        """Its name within the eval."""
        return f"{self.side}.{self.number}.{self.repeat}"


@dataclass(slots=True)
class Outcome:
    """What came of one task. ``scored`` False: nothing can be said of the version, ``why`` tells the reason."""

    task: Task
    status: str  # of the run that it was: completed, failed or blocked; left: it could not be executed
    code: str = ""
    why: str = ""
    output: Any = None
    calls: list[dict[str, Any]] = field(default_factory=list)
    scores: dict[str, Score] = field(default_factory=dict)
    tokens: int = 0
    micros: int = 0
    asked: int = 0  # answers of models
    seconds: float = 0.0

    @property
    def scored(self) -> bool:
        """Whether it tells something of the version."""
        return self.status != "left"

    @property
    def passed(self) -> bool:
        """Whether every scorer is content."""
        return self.scored and bool(self.scores) and all(one.passed for one in self.scores.values())


@dataclass(frozen=True, slots=True)
class Eval:
    """An eval as stored."""

    id: EvalId
    dataset: str
    dataset_hash: str
    agent_id: str
    version: str
    against: str  # empty: one version is examined
    repeats: int
    concurrency: int
    status: EvalStatus
    total: int  # tasks
    done: int
    attempt: int
    lost: int  # of the attempts, those whose worker was lost or cut off with calls under way
    resumes: int
    problem: dict[str, Any] | None
    report: dict[str, Any] | None
    requested_by: str
    request_id: str
    started_at: datetime
    ended_at: datetime | None

    @property
    def asked_again(self) -> int:
        """At most so many calls were under way in attempts that were lost, and may be paid though asked again."""
        return self.lost * self.concurrency

    @property
    def is_deadly(self) -> bool:
        """Whether it lost as many workers as an eval may."""
        return self.lost >= MOST_LOST * (self.resumes + 1)

    @property
    def sides(self) -> dict[Side, str]:
        """The versions that are executed."""
        return {Side.CANDIDATE: self.version} | ({Side.AGAINST: self.against} if self.against else {})


@dataclass(frozen=True, slots=True)
class Latest:
    """The last figure of a version over a data set, as gates want it: the share of cases that passed every scorer."""

    value: float | None
    low: float | None
    high: float | None
    samples: int
    eval_id: str
    ended_at: datetime


@dataclass(frozen=True, slots=True)
class DatasetAdded(Fact):
    """A data set, or another content of one, was added."""

    key_field: ClassVar[str] = "dataset"
    dataset: str
    hash: str
    cases: int
    broken: int
    added_by: str


@dataclass(frozen=True, slots=True)
class EvalStarted(Fact):
    """An eval was started, or somebody made it go on."""

    key_field: ClassVar[str] = "eval_id"
    eval_id: str
    dataset: str
    dataset_hash: str
    agent_id: str
    version: str
    against: str
    tasks: int
    resumes: int
    by: str


@dataclass(frozen=True, slots=True)
class EvalAsked(Fact):
    """Models that cost answered the agent or a judge of an eval: what each used, as a journal's row tells it.

    Written with the answers in their very statement (eval_note), also where the eval is over: it is paid all the same.
    """

    key_field: ClassVar[str] = "ask_id"
    ask_id: str
    eval_id: str
    agent_id: str
    version: str
    answers: list[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class EvalCancelled(Fact):
    """Somebody ended an eval that was under way."""

    key_field: ClassVar[str] = "eval_id"
    eval_id: str
    by: str


@dataclass(frozen=True, slots=True)
class EvalEnded(Fact):
    """An eval came to an end, for now where it failed."""

    key_field: ClassVar[str] = "eval_id"
    eval_id: str
    dataset: str
    dataset_hash: str
    agent_id: str
    version: str
    against: str
    status: str
    code: str
    cases: int
    scores: dict[str, float | None]  # the candidate's mean by scorer, and the share of cases that passed all
    tokens: int
    micros: int

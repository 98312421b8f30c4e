"""Execute a recorded run again: the loop of live runs, over a journal in memory, with nothing live within reach.

    the loop asks its journal for an answer   → the recorded one, while all that the model was told is as it was
    it decides a call                         → as recorded; by the recorded rulebook where its policies are known
    it calls, asks people, drafts, settles    → what came of that very call then
    it appends                                → compared with the recorded row
    it wants what is not there                → the run ended here then, by what came from outside

What differs ends a replay at once (``Diverged``); a what-if goes on for as long as the recording can answer.
"""

from __future__ import annotations

from dataclasses import replace
from math import inf
from typing import Any, Final, Never, cast

import msgspec
import structlog

from agentos.control.policy.rules import Rulebook
from agentos.control.stops.model import Subject
from agentos.evidence.replay.content import Divergence, Kind
from agentos.evidence.replay.plans import Diverged, Ends, Outcome, Plan
from agentos.evidence.replay.recording import Recording, ReplayReachedOut
from agentos.evidence.replay.tape import Tape
from agentos.evidence.replay.world import Again, Recorded
from agentos.kernel.database import Database
from agentos.kernel.errors import AgentOSError, Bug, Unavailable, problem
from agentos.kernel.telemetry import Meter
from agentos.kernel.telemetry.catalogue import Metric
from agentos.runtime.inference.settings import RouterSettings
from agentos.runtime.runs import loop
from agentos.runtime.runs.model import Claimed, RunStatus
from agentos.runtime.runs.ports import Parts
from agentos.runtime.runs.segment import Held, Leave
from agentos.runtime.runs.settings import RunSettings
from agentos.runtime.skills import Registry, Skill

log = structlog.get_logger(__name__)

# Ends that the loop itself comes to; after any other the recording may simply stop.
OF_THE_LOOP: Final = frozenset({"run_turns_used_up", "run_tokens_used_up", "model_answer_cut", "run_denied"})
# Whatever the environment says; reading it would take a quarter of a replay's time, too.
SETTINGS: Final = RunSettings.model_construct(send_window_seconds=inf)
ROUTING: Final = RouterSettings.model_construct()
NO_BOOK: Final = Rulebook(Subject("", "", ""))  # under which nothing is stopped and no read is asked about

COST: Final = frozenset({("answer", "tokens"), ("answer", "micros")})


class _Nowhere:
    """Stands where a live run has its database, its models, its meter's page. Whoever touches it has a fault."""

    def __getattr__(self, name: str) -> Never:
        raise ReplayReachedOut(f"a replay reached for '{name}'", then="This is a fault of ours.")


class _Silent(Meter):
    """A replay is no work that was done: nothing of it is measured."""

    def __init__(self) -> None:
        """Make no series."""

    def count(self, metric: Metric, by: float = 1, **labels: str) -> None:
        """Count nothing."""

    def observe(self, metric: Metric, value: float, **labels: str) -> None:
        """Observe nothing."""


NOWHERE: Final[Any] = _Nowhere()
SILENT: Final = _Silent()


class _Contracts(Registry):
    """The skills of a plan, and what was known of others then."""

    def __init__(self, recording: Recording, skills: dict[str, Skill]) -> None:
        super().__init__()
        self._by_name = skills
        self._recording = recording

    def pinned(self, name: str, version: str, digest: str) -> Skill:
        """The contract of a skill; whoever made the plan has seen that it is the very one."""
        del version, digest
        return self._by_name[name]

    def knows(self, name: str) -> bool:
        """Whether a skill of that name was loaded then."""
        rows = (row for some in self._recording.by_step.values() for row in some if row.name == name[:200])
        return all(row.meta.get("decision") != "skill_unregistered" for row in rows)


async def play(recording: Recording, plan: Plan | None = None) -> Outcome:
    """Execute a run again. Nothing live is called, read or written, but for models that the plan lets be asked.

    Raises DatabaseUnavailable, where the plan needs the database for those.
    """
    plan = plan or Plan(recording.definition, recording.skills)
    run = replace(recording.run(plan.definition), organization=plan.organization)
    claimed = Claimed(run, plan.definition.tier, "active", {}, inf)
    registry = _Contracts(recording, plan.skills)
    if plan.parts is None:
        parts = Parts(
            NOWHERE, registry, NOWHERE, SETTINGS, SILENT, NOWHERE, (), (), False, {}, NOWHERE, NOWHERE, NOWHERE,
            routing=ROUTING,
        )  # fmt: skip
    else:
        parts = replace(plan.parts, registry=registry)
    tape = Tape(cast(Database, NOWHERE), claimed, {}, 0, {}, recording=recording, plan=plan)
    segment = Again(
        parts=parts,
        claimed=claimed,
        definition=plan.definition,
        skills={},
        journal=tape,
        spending=plan.spending or NOWHERE,
        inline=False,
        tier=plan.definition.tier,
        deployment_state="active",
        rulebook=NO_BOOK,
    )
    segment._plan, segment._recording, segment._tape = plan, recording, tape
    segment.outside = Recorded(segment, recording, plan, tape)
    status, said, output, parted = RunStatus.COMPLETED, None, None, None
    why = left_at = ""
    untold: Divergence | None = None
    try:
        output = await loop.agent(segment)
        output = msgspec.json.decode(msgspec.json.encode(output))
    except Ends as ends:
        status, said, output = _end(recording, tape)
        if status is RunStatus.RUNNING:
            why, left_at, untold = ends.why, ends.step, ends.divergence
    except Diverged as diverged:
        status, why, parted = RunStatus.RUNNING, "it parted from its recording", diverged.divergence
    except Held as held:
        status, why = RunStatus.RUNNING, f"a stop withholds the model that would be asked: {held.stop.id}"
    except Leave as left:
        status, why = RunStatus.RUNNING, f"the run would wait: {left}"
    except Unavailable:  # the database is away: nothing is known of the run
        raise
    except AgentOSError as error:
        status, said = loop.ends_in(error), problem(error)
    except Exception as error:  # as in the loop: a fault of ours ends this run and no other
        log.warning("replay_failed", error=type(error).__name__)
        status, said = RunStatus.FAILED, {"code": Bug.code}
    rows = tape.rows if not tape.held else [*tape.rows, *tape.held]
    content = recording.content_with(rows, status, said, output, recording.version_of(plan.definition))
    whole = status is not RunStatus.RUNNING
    if parted is None and plan.strict:
        parted = recording.content.differs(content)
        if parted is not None and left_at and (parted.step == "run" or parted.field == "step"):
            parted = Divergence(left_at, "step", Kind.ORDER, None, left_at)
    elif parted is None:  # what it does differently first; what that costs only where it does the same
        parted = recording.content.differs(content, besides=plan.besides | COST, whole=whole)
        parted = parted or untold or recording.content.differs(content, besides=plan.besides, whole=whole)
    return Outcome(content, parted, whole, why, tape.asked, segment.judged, segment.taken)


def _end(recording: Recording, tape: Tape) -> tuple[RunStatus, dict[str, Any] | None, Any]:
    """The run's end where the recording has no more: the recorded one, where that came from outside."""
    code = str((recording.problem or {}).get("code", ""))
    own = recording.status is RunStatus.COMPLETED or code in OF_THE_LOOP
    if own or tape.parted or tape.plan.ask_all:
        return RunStatus.RUNNING, None, None
    return recording.status, recording.problem, recording.output

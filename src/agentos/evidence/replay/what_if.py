"""What recorded runs would have come to under another version, another model or another policy.

Effects are those that were recorded: a call is answered by what came of the very same call then, and where there was
none the run is left there, its outcome unknown. Answers are the recorded ones for as long as the model is told what it
was told then; after that the stub is asked, and a live model only where the caller says so, under the stops and caps in
force.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import partial
from typing import Any, Final

from agentos.control.agents import service as agents
from agentos.control.agents.model import Definition
from agentos.control.budgets.model import Cost, Full, Tokens, Totals
from agentos.control.budgets.spending import Spending
from agentos.control.deployments import service as deployments
from agentos.control.policy import service as policies
from agentos.control.policy.model import Decision, DeploymentPolicy, OrganizationPolicy, Tier
from agentos.control.policy.rules import Proposed, Rulebook, decide
from agentos.control.stops import service as stops
from agentos.control.stops.model import InForce, Subject
from agentos.evidence.replay import again, store
from agentos.evidence.replay.content import Content, Divergence
from agentos.evidence.replay.model import Limits, Proposal, ReplayAsked
from agentos.evidence.replay.plans import Decide, Plan
from agentos.evidence.replay.playback import SILENT, play
from agentos.evidence.replay.recording import Recording, contract_of
from agentos.kernel import epochs, ids
from agentos.kernel.epochs import ORGANIZATION, deployment_scope
from agentos.kernel.errors import Invalid
from agentos.kernel.ids import OrgId
from agentos.kernel.retention import Retention
from agentos.kernel.unit_of_work import Doors, UnitOfWork
from agentos.runtime.inference import Tool, routing
from agentos.runtime.runs.journal import Entry
from agentos.runtime.runs.ports import Parts
from agentos.runtime.skills import Skill

MOST_RUNS: Final = 200  # of one what-if: a second of work, without live models
BILLS_KEPT: Final = Retention("replay_bills_forget", timedelta(days=1))  # with live models it may take hours


class BadWhatIf(Invalid):
    """A what-if that says nothing to try, several things at once, or no runs to try it on."""

    code = "bad_what_if"


@dataclass(frozen=True, slots=True)
class Instead:
    """What is put in the place of what was: one of these."""

    version: str = ""  # a hash, the beginning of one, or a number
    model: str = ""  # PROVIDER/NAME; of the stub NAME is a behaviour
    policy: Proposal | None = None

    def words(self) -> str:
        """What is tried. Raises BadWhatIf (Invalid) when that is not one thing."""
        said = [f"{name} {value}" for name, value in (("version", self.version), ("model", self.model)) if value]
        said += ["policy"] if self.policy is not None else []
        if len(said) != 1:
            raise BadWhatIf("a what-if tries one thing", then="Give one of version, model and policy.")
        if self.model and not all(self.model.partition("/")):
            raise BadWhatIf(f"'{self.model[:80]}' is no model", where="model", then="Write PROVIDER/NAME.")
        return said[0]


@dataclass(frozen=True, slots=True)
class Side:
    """What a run came to, or would have."""

    status: str
    code: str
    hash: str
    steps: int
    tokens: int
    micros: int

    @classmethod
    def of(cls, content: Content) -> Side:
        """The outcome of a run of this content."""
        size = len(content.steps)
        return cls(content.status, content.code, content.content_hash(), size, content.tokens, content.micros)


@dataclass(frozen=True, slots=True)
class Result:
    """One recorded run beside what it would have been."""

    run_id: str
    recorded: Side
    found: Side  # up to where it was left, when it is not whole
    divergence: Divergence | None  # the first; None: none, as far as it went
    whole: bool  # False: its outcome is unknown
    why: str  # it was left
    asked: int  # answers that a model gave anew

    @property
    def outcome_changed(self) -> bool | None:
        """Whether it would have ended in another status or with another problem; None: unknown."""
        if not self.whole:
            return None
        return (self.recorded.status, self.recorded.code) != (self.found.status, self.found.code)

    @property
    def micros_more(self) -> int | None:
        """What it would have cost more, in millionths of a dollar; None: unknown."""
        return self.found.micros - self.recorded.micros if self.whole else None


@dataclass(slots=True)
class Comparison:
    """What was tried, and what each run would have come to."""

    tried: str
    results: list[Result] = field(default_factory=list)

    @property
    def same(self) -> int:
        """Runs that would have done the very same."""
        return sum(1 for one in self.results if one.whole and one.divergence is None)

    @property
    def diverged(self) -> int:
        """Runs that would have done something else."""
        return sum(1 for one in self.results if one.divergence is not None)

    @property
    def unknown(self) -> int:
        """Runs whose outcome nobody can tell from the recording."""
        return sum(1 for one in self.results if not one.whole)

    @property
    def outcomes_changed(self) -> int:
        """Runs that would have ended otherwise, of those whose outcome is known."""
        return sum(1 for one in self.results if one.outcome_changed)

    @property
    def micros_more(self) -> int | None:
        """What the runs whose outcome is known would have cost more; None without one."""
        known = [one.micros_more for one in self.results if one.micros_more is not None]
        return sum(known) if known else None


@dataclass(frozen=True, slots=True)
class Prepared:
    """Runs that were read out of the database, each with the plan to execute it by."""

    tried: str
    plans: tuple[tuple[Recording, Plan], ...]


async def chosen(
    work: UnitOfWork,
    run_ids: Sequence[str],
    deployment_id: str,
    last: int,
    *,
    version: str = "",
    since: datetime | None = None,
) -> list[str]:
    """The runs to try something on: those that are named, or the last of a deployment that are over, of any version.

    ``since``: only those of them that ended since then. Raises BadWhatIf (Invalid), DeploymentUnknown (NotFound).
    """
    if bool(run_ids) == bool(deployment_id):
        raise BadWhatIf("it is to be tried on some runs", then="Give runs, or a deployment and how many of its last.")
    if deployment_id:
        await deployments.get(work, deployment_id)
        run_ids = await store.latest(work, deployment_id, version, since, min(last, MOST_RUNS))
    if len(run_ids) > MOST_RUNS:
        raise BadWhatIf(f"{len(run_ids)} runs, at most {MOST_RUNS} are tried at once", then="Give fewer.")
    return list(dict.fromkeys(run_ids))


async def prepare(
    work: UnitOfWork, parts: Parts, run_ids: Sequence[str], instead: Instead, *, live: bool, at: datetime
) -> Prepared:
    """Read what a what-if needs. ``live``: other models than the stub may be asked, at the organization's cost.

    Raises BadWhatIf, PolicyRefused (Invalid), RunUnknown, VersionUnknown, SkillUnknown (NotFound), RunNotOver,
    SkillChanged (Conflict).
    """
    tried = instead.words()
    proposal = instead.policy or Proposal()
    for policy in (proposal.organization, proposal.deployment):
        if policy is not None:
            policies.check(policy)
    seen = await epochs.read(work, (ORGANIZATION,))
    parts.books.seen(work.organization, seen.get(ORGANIZATION, 0))  # as a segment does: caps and prices of now
    organization = OrganizationPolicy.read((await policies.get(work, ORGANIZATION)).document)
    plans = []
    for run_id in run_ids:
        recording = await again.record(work, parts, run_id)
        deployment = await deployments.get(work, recording.deployment_id)
        own = DeploymentPolicy.read((await policies.get(work, deployment_scope(deployment.id))).document)
        definition, besides = await _definition(work, recording, instead)
        skills = {ref.name: parts.registry.pinned(ref.name, ref.version, ref.digest) for ref in definition.skills}
        book = proposal.book(recording.subject, proposal.denylist.stops(at), organization, own)
        only_stub = all(one.provider == routing.STUB for one in routing.read(definition.model).every)
        asks_live = live and not only_stub
        plan = Plan(
            definition=definition,
            skills={name: contract_of(one) for name, one in skills.items()},
            decide=_decides(instead, definition, deployment.tier, book),
            may_ask=only_stub or live,
            ask_all=_told(definition, skills.values()) != _told(recording.definition, recording.skills.values()),
            strict=False,
            besides=besides,
            parts=parts if asks_live else replace(parts, meter=SILENT),
            spending=_spending(work, parts, definition, recording.version_of(definition), counted=asks_live),
            organization=work.organization,
            stops=partial(_in_force, parts, work.organization, recording.subject) if asks_live else None,
        )
        plans.append((replace(recording, loaded=recording.loaded | set(skills)), plan))
    return Prepared(tried, tuple(plans))


async def compare(prepared: Prepared) -> Comparison:
    """Execute the runs again, one after the other. No skill is called, no journal is written, no effect is made."""
    comparison = Comparison(prepared.tried)
    for recording, plan in prepared.plans:
        try:
            outcome = await play(recording, plan)
        finally:
            if isinstance(plan.spending, _Counted):
                await plan.spending.end()
        comparison.results.append(
            Result(
                recording.run_id,
                Side.of(recording.content),
                Side.of(outcome.content),
                outcome.divergence,
                outcome.whole,
                outcome.why,
                outcome.asked,
            )
        )
        await asyncio.sleep(0)  # others on this loop go on meanwhile
    return comparison


async def _definition(
    work: UnitOfWork, recording: Recording, instead: Instead
) -> tuple[Definition, frozenset[tuple[str, str]]]:
    """The definition to execute, and the fields that differ because of it."""
    own = recording.definition
    answerer = {("run", "version"), ("answer", "provider"), ("answer", "model")}
    if instead.version:
        return (await agents.get_version(work, own.agent_id, instead.version)).definition, frozenset(answerer)
    if instead.model:
        return replace(own, model=_model(own.model, instead.model)), frozenset(answerer)
    limits = instead.policy.budgets if instead.policy is not None else Limits()
    given = {name: getattr(limits, name) for name in ("turns", "steps", "tokens") if getattr(limits, name) is not None}
    if not given:
        return own, frozenset()
    return replace(own, budgets=replace(own.budgets, **given)), frozenset({("run", "version")})


def _model(own: Mapping[str, Any], written: str) -> dict[str, Any]:
    """The policy of the model that is tried: no mode, rule or fallback of the version's leads to another one.

    What must not leave the operator's machines does not leave them for a what-if.
    """
    provider, _, name = written.partition("/")
    dropped = routing.OWN | {"script", "behaviour"}
    policy = {word: value for word, value in own.items() if word not in dropped}
    policy |= {"provider": provider} | ({"behaviour": name} if provider == routing.STUB else {"name": name})
    route = routing.read(own)
    if route.local_only or any(rule.local_only for rule in route.rules):
        policy["routing"] = {"local_only": True}
    return policy


async def _in_force(parts: Parts, organization: OrgId, subject: Subject) -> InForce:
    """The stops that concern the run's deployment now. Raises DatabaseUnavailable."""
    async with parts.doors.open(organization) as work:
        return await stops.in_force(work, subject)


def _decides(instead: Instead, definition: Definition, present: Tier, book: Rulebook) -> Decide:
    """How calls are decided: under a proposed policy by it, else as then where the call and its tier are the same."""

    def decides(call: Proposed, recorded: Decision | None, row: Entry | None) -> tuple[Decision, Tier]:
        named = None if row is None else row.meta.get("tier")
        then = None if named is None else Tier[named]
        if instead.policy is not None:
            tier = instead.policy.tier_of(present if then is None else then, definition.tier)
            return decide(replace(call, tier=tier), book), tier
        tier = min(present, definition.tier) if instead.version or then is None else then
        if recorded is not None and row is not None and tier is then:
            same_skill = row.name == call.skill[:200] and (row.effect is None or row.effect == call.effect)
            if same_skill and call.pinned == (row.meta.get("version") != "unknown"):
                return recorded, tier
        return decide(replace(call, tier=tier), book), tier

    return decides


def _told(definition: Definition, skills: Iterable[Skill]) -> Any:
    """All that a model is told besides the conversation, and who is asked."""
    tools = [Tool(one.name, one.description, one.input_schema) for one in skills]
    return definition.instructions, definition.model, definition.output_schema, definition.prompts, tools


def _spending(work: UnitOfWork, parts: Parts, definition: Definition, version: str, *, counted: bool) -> Spending:
    """What answers that are asked anew spend. ``counted``: they count in the caps of the organization and the agent."""
    allowed = (definition.budgets.money, definition.budgets.tokens)
    place = (parts.database, parts.books, work.organization, ids.new("replay"), definition.agent_id)
    if not counted:
        return Free(*place, (1, 1), allowed, Totals(), lambda: 0)
    return _Counted(*place, (1, 1), allowed, Totals(), lambda: 0, doors=parts.doors, version=version)


class _Counted(Spending):
    """Spending without a journal: what an answer cost is counted at once, in a transaction of its own.

    What was reserved by a process that was lost in between is settled by ``replay_bills_forget``, which workers call.
    """

    def __init__(self, *place: Any, doors: Doors, version: str) -> None:
        super().__init__(*place)
        self.doors = doors
        self.version = version

    async def settle(self, used: Tokens | None, model: str, steps: int, *, at: datetime) -> tuple[Cost, str | None]:
        """What the answer cost; it is counted, and told, when this returns."""
        asked = self._asked
        assert asked is not None
        cost, _ = await super().settle(used, model, steps, at=at)
        fact = ReplayAsked(
            ask_id=f"{self.run_id}.{self.totals.calls}",
            agent_id=self.agent_id,
            version=self.version,
            provider=asked.provider,
            model=model,
            input_tokens=None if used is None else used.input,
            output_tokens=None if used is None else used.output,
            cache_read_tokens=None if used is None else used.cache_read,
            cache_write_tokens=None if used is None else used.cache_write,
            micros=None if cost.unknown else cost.money,
            counted_micros=cost.money,
            counted_tokens=cost.tokens,
        )
        async with self.doors.open(self.organization) as work:
            await self.count(work)
            await work.publish(fact)
        return cost, None

    async def end(self) -> None:
        """Close what is reserved for a call that has no answer, for good: it holds no room of a cap any longer."""
        unanswered = "" if self._asked is None else self._asked.step
        async with self.doors.open(self.organization) as work:
            await self.finish(work, unanswered)


class Free(Spending):
    """Spending of the stub, which bills nobody. Nothing is written."""

    async def reserve(self, *_asked: Any, **_when: Any) -> Full | None:
        """There is always room."""
        return None

    async def settle(self, used: Tokens | None, model: str, steps: int, *, at: datetime) -> tuple[Cost, str | None]:
        """The tokens, at no price."""
        del model, at
        return Cost(0, 0 if used is None else used.input + used.output, unknown=used is None, steps=steps), None

    async def close(self, unanswered: str, *, spent_on: datetime | None = None) -> None:
        """Nothing is open."""

"""One attempt at one segment: what it holds, how it may leave, and what of it the other modules share."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final, Never, Protocol, TypeVar

from agentos.control.agents.model import Definition
from agentos.control.budgets.spending import Spending
from agentos.control.policy.hosts import hosts_of
from agentos.control.policy.model import Decision, Tier
from agentos.control.policy.rules import Proposed, Rulebook, decide
from agentos.control.stops.model import InForce, Stop
from agentos.kernel.canonical import digest_bytes
from agentos.kernel.clock import elapsed
from agentos.kernel.telemetry.catalogue import DECISIONS, STEPS, Metric
from agentos.runtime.inference import Call, Tool
from agentos.runtime.runs import store
from agentos.runtime.runs.journal import Entry, Journal
from agentos.runtime.runs.model import Claimed, Run, RunStatus, RunTimedOut, Waiting
from agentos.runtime.runs.ports import Parts
from agentos.runtime.runs.prompts import Prompts
from agentos.runtime.skills import Lookup, Skill, SkillContext

T = TypeVar("T")

_REFERENCE: Final = re.compile(rb"secret://([A-Za-z0-9_-]{1,64})")


class Leave(Exception):  # the loop leaves its segment; never an answer to a user
    """The loop leaves its segment. One of those below."""


class Park(Leave):
    """The run waits for something; its workflow wakes it."""

    def __init__(self, waiting: Waiting, status: RunStatus = RunStatus.RUNNING) -> None:
        super().__init__(waiting.reason)
        self.waiting = waiting
        self.status = status


class Parked(Leave):
    """The run waits, and the transaction that asked the question has recorded so."""

    def __init__(self, waiting: Waiting) -> None:
        super().__init__(waiting.reason)
        self.waiting = waiting


class Held(Leave):
    """A stop withholds the next step; the run goes on when it is lifted."""

    def __init__(self, stop: Stop) -> None:
        super().__init__(stop.id)
        self.stop = stop


class HandOver(Leave):
    """The segment ends here and the next one goes on at once: time is up, or this worker shuts down."""


class Interrupted(Leave):
    """The run was ordered to pause or cancel, is held, or this worker shuts down, while a call was under way."""


@dataclass(slots=True)
class Effect:
    """A call under way: the skill, its canonical arguments, and how often it was sent."""

    key: str
    skill: Skill
    arguments: dict[str, Any]
    data: bytes  # the canonical form of the arguments
    submitted: bool
    hosts: tuple[str, ...] | None = None  # that the arguments name, once they were looked for
    sends: int = 0
    sent_at: float | None = None  # of the last send, when this attempt made it
    seconds: float = 0.0  # that the skill was at work for this attempt
    secrets: set[str] = field(default_factory=set)  # by name: what the arguments refer to, and whatever was given

    def meta(self, **more: Any) -> dict[str, Any]:
        """What every row of this call says."""
        told = {"version": self.skill.version, "arguments_digest": digest_bytes(self.data), **more}
        if b"secret://" in self.data:
            self.secrets.update(found.decode() for found in _REFERENCE.findall(self.data))
        return told | {"secrets": sorted(self.secrets)} if self.secrets else told

    def noting(self, secret: Callable[[str], str]) -> Callable[[str], str]:
        """Resolves secrets, and remembers which for the rows of this call."""

        def resolve(name: str) -> str:
            self.secrets.add(name)
            return secret(name)

        return resolve


@dataclass(frozen=True, slots=True)
class Answered:
    """What people answered about a call. With a yes, the intent that uses it up is in the journal."""

    is_yes: bool
    approval: str  # its id
    refusal: dict[str, str] = field(default_factory=dict)  # what the agent is told instead: code and message
    becomes_draft: bool = False  # nobody answered in time, and the organization wants a draft then


class Outside(Protocol):
    """What a run reaches beyond its journal: skills, what receives their effects, and people. A replay has another."""

    def arguments(self, one: Skill, given: dict[str, Any]) -> tuple[dict[str, Any], bytes]:
        """The arguments of a call as they will execute, and their canonical form.

        Raises ArgumentsRefused or NotCanonical (Invalid).
        """
        ...

    async def call(self, effect: Effect) -> Any:
        """What the skill answers. Raises what ``execute`` raises."""
        ...

    async def lookup(self, effect: Effect) -> Lookup:
        """What the receiver says of a send whose end is unknown; whatever it raises counts as not knowing."""
        ...

    async def quiet(self, effect: Effect, send: str) -> None:
        """Return once the send can no longer be under way. Raises Park when that takes long."""
        ...

    async def answer(self, effect: Effect, decision: Decision) -> Answered:
        """People's answer to a call. Asks and raises Parked without one; EpochsMoved when no intent was written."""
        ...

    async def draft(self, effect: Effect, decision: Decision) -> Entry:
        """Keep the call as a draft, and journal so; the row."""
        ...

    async def ask_end(self, effect: Effect, send: str) -> Never:
        """Ask people whether an effect happened. Raises Parked."""
        ...

    async def withdraw(self, effect: Effect) -> None:
        """Close what people are still asked about the call."""
        ...

    async def submitted(self) -> Call:
        """The one call of a run that a person submitted out of a draft."""
        ...


@dataclass(slots=True, eq=False)
class Segment:
    """One attempt at one segment of a run."""

    outside: Outside = field(init=False)
    parts: Parts
    claimed: Claimed
    definition: Definition
    skills: dict[str, Skill]
    journal: Journal
    spending: Spending
    inline: bool
    tier: Tier
    deployment_state: str
    rulebook: Rulebook  # as new as the journal's epochs
    began: float = field(default_factory=elapsed)
    interrupt: asyncio.Event = field(default_factory=asyncio.Event)
    # Provider, model and messages of the last question, and the tokens that the provider counted as its input.
    counted_input: tuple[str, str, int, int] | None = None
    stood_in: bool = False  # a stub stood in for the version's own model: see recommend_only
    answered_to: int = 0  # messages of the last question that has an answer
    prompts: Prompts | None = None  # set with the first question, where the version wants its prompts masked
    forced: asyncio.Event = field(default_factory=asyncio.Event)  # this and the next two: see halts.Live
    moved: bool = False
    held_since: float | None = None
    tools: tuple[Tool, ...] = ()  # the skills as a model is told them
    labels: dict[str, str] = field(init=False)  # where this run's measurements belong

    def __post_init__(self) -> None:
        run = self.claimed.run
        self.labels = {"org": run.organization, "agent_id": run.agent_id, "deployment": run.deployment_id}

    @property
    def run(self) -> Run:
        """The run, as it was claimed."""
        return self.claimed.run

    @property
    def seen(self) -> Mapping[str, int]:
        """The epochs that decisions are made under."""
        return self.journal.epochs

    @property
    def stops(self) -> InForce:
        """The stops that concern the run."""
        return self.rulebook.stops

    def check_time(self) -> None:
        """Raises HandOver when the segment's time is up, RunTimedOut (Exhausted) when the run's is."""
        spent = elapsed() - self.began
        if spent > self.claimed.seconds_left:
            raise RunTimedOut(
                f"the run took longer than the {self.definition.budgets.seconds} s that its version allows",
                then="Raise spec.budgets.duration, or look at the journal for what took the time.",
            )
        limits = self.parts.settings
        if spent > (limits.inline_seconds if self.inline else limits.segment_seconds):
            raise HandOver

    async def may_begin(self, *, surely: bool = False) -> None:
        """Return when another step may begin. ``surely``: look in the database, and not only at what was noticed.

        Raises Held, StopsUnreadable or DatabaseUnavailable.
        """
        halts = self.parts.halts
        if surely:
            await halts.look_for(self, self.parts.database)
        halts.check_sight(self, self.parts.settings)
        if self.moved:
            await self.refresh()
        self.check_held()

    def decide(self, key: str, proposed: Proposed) -> Decision:  # noqa: ARG002  # a replay knows it by its step
        """What policy says of the call of this step."""
        decision = decide(proposed, self.rulebook)
        self.count(DECISIONS, verdict=decision.verdict.value)
        return decision

    def check_held(self) -> None:
        """Raises Held when a stop holds the run."""
        stop = self.stops.held
        if stop is not None:
            raise Held(stop)

    async def interruptible(self, work: Coroutine[Any, Any, T], by: asyncio.Event | None = None) -> T:
        """Await something that may be broken off without harm: a model's answer or a read. Raises Interrupted."""
        task = asyncio.ensure_future(work)
        alarm = asyncio.ensure_future((by or self.interrupt).wait())
        try:
            await asyncio.wait((task, alarm), return_when=asyncio.FIRST_COMPLETED)
            if not task.done():
                raise Interrupted
            return task.result()
        finally:
            for one in (task, alarm):
                if not one.done():
                    one.cancel()
                    with suppress(asyncio.CancelledError, Exception):
                        await one

    async def refresh(self) -> None:
        """Read again what decisions stand on: epochs, tier, state of the deployment, and the rulebook."""
        tier, self.deployment_state, epochs = await store.standing(self.parts.database, self.claimed)
        self.rulebook = await rulebook_of(self.parts, self.run, epochs)
        self.tier, self.journal.epochs, self.moved = min(tier, self.definition.tier), epochs, False
        if self.stood_in:
            self.recommend_only()

    def recommend_only(self) -> None:
        """Act at L1 at most from here on: what asks for effects is, or was, a stub in the place of the model."""
        self.stood_in, self.tier = True, min(self.tier, Tier.L1)

    def proposed(self, effect: Effect) -> Proposed:
        """The call as policy sees it."""
        if effect.hosts is None:
            effect.hosts = hosts_of(effect.arguments)
        one = effect.skill
        return Proposed(one.name, one.effect, True, self.tier, effect.submitted, hosts=effect.hosts)

    def told(self, decision: Decision) -> dict[str, Any]:
        """A decision as the journal keeps it, with the tier that it was made at."""
        return decision.record() | {"tier": self.tier.name}

    def intent(self, effect: Effect, decision: Decision, **more: Any) -> Entry:
        """The row that lets the call be sent once more."""
        send = effect.sends + 1
        return Entry(
            key=f"{effect.key}~{send}",
            phase="intent",
            kind="skill",
            name=effect.skill.name,
            status="sent" if send == 1 else "sent_again",
            meta=effect.meta(reversibility=effect.skill.reversibility.value, **self.told(decision), **more),
            content=effect.arguments,
            effect=effect.skill.effect,
            idempotency_key=f"{self.run.id}.{effect.key}",
            window_seconds=self.parts.settings.send_window_seconds,
        )

    def context(self, one: Skill, key: str) -> SkillContext:
        """What a call of this skill may know. The idempotency key names the run and the step."""
        run = self.claimed.run
        return SkillContext(
            organization=run.organization,
            run_id=run.id,
            key=f"{run.id}.{key}",
            timeout=one.timeout,
            roots=self.parts.roots,
            hosts=self.parts.hosts,
            egress=self.parts.egress,
            secret=self.parts.secret,
        )

    def count(self, metric: Metric, **labels: str) -> None:
        """Count one on a metric, with this run's labels."""
        self.parts.meter.count(metric, 1, **self.labels, **labels)

    async def record(self, *entries: Entry, surely: bool = False) -> None:
        """Append to the journal and count the steps. ``surely``: hold on to it while the database is away."""
        if surely:
            for entry in entries:
                await self.journal.append_surely(entry)
        else:
            await self.journal.append(*entries)
        self._count_steps(entries)

    def hold(self, entry: Entry) -> None:
        """Journal the entry together with the next one, and count the step. See Journal.hold."""
        self.journal.hold(entry)
        self._count_steps((entry,))

    def _count_steps(self, entries: Sequence[Entry]) -> None:
        for entry in entries:
            self.count(STEPS, kind=entry.kind, status=entry.status)


async def rulebook_of(parts: Parts, run: Run, epochs: Mapping[str, int]) -> Rulebook:
    """What is in force for the run's deployment, at least as new as these epochs. Raises DatabaseUnavailable."""
    return await parts.rulebooks.under(parts.doors, run.organization, run.subject, epochs)

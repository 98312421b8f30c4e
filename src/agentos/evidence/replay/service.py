"""Say what policy would do: with one call, with every skill of a deployment, and with what runs did in a window."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from agentos.control.agents import service as agents
from agentos.control.agents.model import SkillRef, Version
from agentos.control.deployments import service as deployments
from agentos.control.deployments.model import Deployment
from agentos.control.policy import service as policies
from agentos.control.policy.hosts import hosts_of
from agentos.control.policy.model import Decision, DeploymentPolicy, EffectClass, OrganizationPolicy, Tier
from agentos.control.policy.rules import Answer, Proposed, Rule, Rulebook, answers, decide
from agentos.control.stops.model import Subject
from agentos.evidence.replay import store
from agentos.evidence.replay.answers import Answers, begins, replayed
from agentos.evidence.replay.model import BadWindow, Proposal, Report, recorded
from agentos.kernel.canonical import canonical
from agentos.kernel.epochs import ORGANIZATION, deployment_scope
from agentos.kernel.errors import AgentOSError
from agentos.kernel.unit_of_work import UnitOfWork
from agentos.kernel.units import MalformedDuration, duration
from agentos.runtime.skills import Registry, Skill

MOST_ACTIONS: Final = 20_000  # of one backtest: at 0.15 ms each with a hundred Cedar policies, three seconds
MOST_ANSWERS: Final = 50_000  # of models, of one backtest: some 30 MB of rows without payloads
LONGEST: Final = timedelta(days=366)


@dataclass(frozen=True, slots=True)
class Ruling:
    """What policy would say of one call now, and what each of its rules says."""

    proposed: Proposed
    effect: EffectClass | None  # None: the version does not name the skill, or it is not loaded; S4 is assumed
    decision: Decision
    table: list[tuple[Rule, Answer | None]]


@dataclass(frozen=True, slots=True)
class Change:
    """What becomes of calls of one skill under a proposal. The decisions are None when the skill is not loaded here."""

    skill: SkillRef
    effect: EffectClass | None
    now: Decision | None
    proposed: Decision | None


@dataclass(frozen=True, slots=True)
class Cost:
    """What the approvals that a proposal asks for would cost, by what approvals took so far."""

    measured: int
    median_minutes: float | None
    minutes: float | None  # None: unknown, because nobody answered an approval yet


async def ruling(
    work: UnitOfWork,
    registry: Registry,
    deployment_id: str,
    skill: str,
    arguments: dict[str, Any],
    *,
    submitted: bool = False,
) -> Ruling:
    """What policy would say of a call of this deployment now.

    Raises DeploymentUnknown (NotFound), MalformedId, NotCanonical (Invalid).
    """
    canonical(arguments)  # what no run would call with is not judged either
    await store.read_only(work)
    deployment, version, subject = await _standing(work, deployment_id)
    book = await policies.rulebook(work, subject)
    ref = next((one for one in version.definition.skills if one.name == skill), None)
    loaded = _loaded(registry, ref) if ref else None
    call = Proposed(
        skill,
        loaded.effect if loaded else EffectClass.S4,
        ref is not None,
        min(deployment.tier, version.definition.tier),
        submitted=submitted,
        registered=registry.knows(skill),
        hosts=hosts_of(arguments),
    )
    return Ruling(call, loaded.effect if loaded else None, decide(call, book), answers(call, book))


async def simulate(
    work: UnitOfWork, registry: Registry, deployment_id: str, proposal: Proposal, *, at: datetime
) -> list[Change]:
    """What a proposal would change for each skill of the version that serves. Raises as ``ruling``, and PolicyRefused.

    Stops that are in force count on both sides; arguments, and with them hosts, are not looked at.
    """
    await store.read_only(work)
    _check(proposal)
    deployment, version, subject = await _standing(work, deployment_id)
    now = await policies.rulebook(work, subject)
    stops = [*now.stops.stops, *proposal.denylist.stops(at)]
    then = proposal.book(subject, stops, now.organization, now.deployment)
    highest = version.definition.tier
    changes = []
    for ref in version.definition.skills:
        loaded = _loaded(registry, ref)
        if loaded is None:
            changes.append(Change(ref, None, None, None))
            continue
        before = Proposed(ref.name, loaded.effect, True, min(deployment.tier, highest))
        after = Proposed(ref.name, loaded.effect, True, proposal.tier_of(deployment.tier, highest))
        changes.append(Change(ref, loaded.effect, decide(before, now), decide(after, then)))
    return changes


async def backtest(
    work: UnitOfWork, proposal: Proposal, since: datetime, until: datetime, *, deployment_id: str = ""
) -> tuple[Report, Answers | None, Cost]:
    """What a proposal would have made of what runs did in a window, of what models answered them (None: it says nothing
    of that), and what its questions would have cost people.

    What the proposal leaves open is as in force now, but for stops: those of today were not those of then, so only the
    proposal's denylist counts. Raises PolicyRefused, BadWindow, MalformedId (Invalid), DeploymentUnknown (NotFound).
    """
    await store.read_only(work)
    _check(proposal)
    if not since < until or until - since > LONGEST:
        raise BadWindow(f"the window from {since} to {until} is empty or longer than a year", then="Give --since.")
    if deployment_id:
        await deployments.get(work, deployment_id)
    report = Report(since, until)
    answers = None
    if proposal.judges_answers:
        begin, only = begins(proposal, since), "" if proposal.caps else deployment_id
        said = await store.answers(work, begin, until, only, most=MOST_ANSWERS + 1)
        report.complete = len(said) <= MOST_ANSWERS
        answers = replayed(said[:MOST_ANSWERS], proposal, since, deployment_id=deployment_id)
    organization = OrganizationPolicy.read((await policies.get(work, ORGANIZATION)).document)
    written = (proposal.organization or organization).cedar
    by_hosts = bool(proposal.denylist.domains) or "hosts" in written
    is_whole = True
    books: dict[Subject, Rulebook] = {}
    highest: dict[tuple[str, str], Tier] = {}
    async for rows in store.journals(work, since, until, deployment_id, content=by_hosts):
        for one in recorded(rows):
            if not since <= one.at < until:
                continue
            if report.actions >= MOST_ACTIONS:
                report.complete = is_whole = False
                break
            named = (one.subject.agent_id, one.version)
            if named not in highest:
                highest[named] = (await agents.get_version(work, *named)).definition.tier
            if one.subject not in books:
                own = DeploymentPolicy.read(
                    (await policies.get(work, deployment_scope(one.subject.deployment_id))).document
                )
                stops = proposal.denylist.stops(until)
                books[one.subject] = proposal.book(one.subject, stops, organization, own)
            refused = answers.cut(one.run_id, one.seq) if answers else None
            cut = (refused.code, refused.reason) if refused else None
            report.take(one, proposal, highest[named], books[one.subject], by_hosts=by_hosts, cut=cut)
        await asyncio.sleep(0)  # others on this loop go on meanwhile
        if not is_whole:
            break
    measured, seconds = await store.answered(work)
    median = None if seconds is None else seconds / 60
    minutes = 0.0 if not report.approvers else None if median is None else median * report.approvers
    return report, answers, Cost(measured, median, minutes)


def window(since: str, until: str, *, at: datetime) -> tuple[datetime, datetime]:
    """A window out of durations before now, such as ``24h``, or moments with their zone. Raises BadWindow (Invalid)."""
    return _moment(since, at), _moment(until, at) if until else at


def _moment(written: str, at: datetime) -> datetime:
    try:
        return at - duration(written)
    except (MalformedDuration, OverflowError):
        pass
    try:
        moment = datetime.fromisoformat(written)
        if moment.tzinfo is None:
            raise ValueError
        return moment.astimezone(UTC)
    except (ValueError, OverflowError):
        raise BadWindow(
            f"'{written[:40]}' is neither a duration nor a moment",
            then="Write 24h, or 2026-03-01T09:00:00Z.",
        ) from None


def _check(proposal: Proposal) -> None:
    for policy in (proposal.organization, proposal.deployment):
        if policy is not None:
            policies.check(policy)


async def _standing(work: UnitOfWork, deployment_id: str) -> tuple[Deployment, Version, Subject]:
    """A deployment, the version that serves there (before any does, that of the last draft), and whom stops know."""
    found = await deployments.get(work, deployment_id)
    hashed = found.version or (await deployments.history(work, found.id))[0].version
    version = await agents.get_version(work, found.agent_id, hashed)
    return found, version, Subject(found.id, found.agent_id, version.definition.category)


def _loaded(registry: Registry, ref: SkillRef) -> Skill | None:
    try:
        return registry.pinned(ref.name, ref.version, ref.digest)
    except AgentOSError:
        return None

"""What the platform found out by itself is said in a thread, and handed on to the people who may act on it.

Budgets that are reached or passed go to those who may set budgets; a canary that was rolled back, and a rollback that
did not help, to those who may change deployments.

Each subject of a budget, which is an agent or the organization as a whole, has one thread, and so has each deployment.
A cap of a day or a month is said at 75 % and at 100 %. What may come a thousand times a day is said once a day: the
overshoots of an agent, with their count, and that runs reach their own cap.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import UTC, date, datetime, time
from typing import Final

from agentos.control.budgets import service as budgets
from agentos.control.budgets.model import BudgetOvershot, BudgetReached, Period
from agentos.intake.identity import service as identity
from agentos.intake.identity.model import Permission
from agentos.intake.inbox import service as inbox
from agentos.intake.inbox.model import Message, MessageKind, Thread
from agentos.kernel.unit_of_work import UnitOfWork
from agentos.kernel.units import CURRENCY, dollars
from agentos.operations.notifications import service
from agentos.operations.notifications.model import Medium, NotificationKind
from agentos.operations.rollouts.model import CanaryBreached, Outcome, RollbackValidated

FULL: Final = 100  # percent
MOST_SAID: Final = 4000  # characters of a message
ABOUT: Final = "budget:"  # what a thread about a budget is about, before its subject
_AGENT: Final = "agent:"


async def reached(work: UnitOfWork, fact: BudgetReached, *, media: Collection[Medium]) -> int:
    """Say that a cap is reached, or nearly, once for each cap and period. How many messages are new.

    Of runs it is said once a day that one reached a cap; one that only comes near its own is no news.
    """
    of_run = fact.period == Period.RUN
    if of_run and fact.percent < FULL:
        return 0
    cap = f"{fact.resource} {fact.most}{' of version' if fact.of_version else ''}"
    dedup = f"budget {fact.subject} {fact.period} {fact.since} {cap} {fact.percent}"
    thread = await _thread(work, fact.subject)
    kind = MessageKind.ALERT if fact.percent >= FULL else MessageKind.NOTICE
    said = await inbox.note(work, thread, kind, _of_run(fact) if of_run else _of_period(fact), dedup=dedup)
    return await _hand_on(work, thread, said, dedup, media)


async def overshot(work: UnitOfWork, fact: BudgetOvershot, *, media: Collection[Medium]) -> int:
    """Say that calls of an agent cost more than was reserved for them: once a day, and how many by now.

    How many messages are new.
    """
    if not fact.agent_id:  # of a release that did not tell whose it was
        return 0
    dedup = f"overshot {fact.agent_id} {fact.since}"
    text = _of_overshoot(fact, await _overshoots(work, fact.agent_id, date.fromisoformat(fact.since)))
    if await inbox.restate(work, dedup, text):
        return 0
    thread = await _thread(work, _AGENT + fact.agent_id)
    return await _hand_on(
        work, thread, await inbox.note(work, thread, MessageKind.ALERT, text, dedup=dedup), dedup, media
    )


async def canary_breached(work: UnitOfWork, fact: CanaryBreached, *, media: Collection[Medium]) -> int:
    """Say that a canary was rolled back by itself, once, with the figures. How many messages are new."""
    said = (
        f"The canary of {fact.agent_id} (revision {fact.revision}, {fact.version[:19]}) was rolled back by itself: "
        f"{'; '.join(fact.because)}. See agentos deployments canaries {fact.deployment_id}."
    )
    return await _about_deployment(work, fact.deployment_id, said, f"canary {fact.revision}", media)


async def rollback_validated(work: UnitOfWork, fact: RollbackValidated, *, media: Collection[Medium]) -> int:
    """Say that a rollback did not help, once. How many messages are new."""
    if fact.outcome != Outcome.FAILED:
        return 0
    checks = ", ".join(f"{name} {outcome}" for name, outcome in sorted(fact.checks.items()))
    said = (
        f"The rollback to {fact.version[:19]} (revision {fact.number}) did not help: {checks}. "
        f"See agentos deployments validation {fact.deployment_id}."
    )
    return await _about_deployment(work, fact.deployment_id, said, f"rollback {fact.number}", media)


async def _about_deployment(
    work: UnitOfWork, deployment_id: str, text: str, what: str, media: Collection[Medium]
) -> int:
    dedup = f"{deployment_id} {what}"
    thread = await inbox.open_about(work, deployment_id, title=f"The rollouts of {deployment_id}")
    said = await inbox.note(work, thread, MessageKind.ALERT, text[:MOST_SAID], dedup=dedup)
    return await _hand_on(work, thread, said, dedup, media, whom=Permission.CHANGE_DEPLOYMENTS)


async def _thread(work: UnitOfWork, subject: str) -> Thread:
    return await inbox.open_about(work, ABOUT + subject, title=f"The budget of {_named(subject)}")


async def _hand_on(
    work: UnitOfWork,
    thread: Thread,
    said: Message | None,
    dedup: str,
    media: Collection[Medium],
    *,
    whom: Permission = Permission.CHANGE_BUDGETS,
) -> int:
    if said is None:
        return 0
    kind = NotificationKind.ALERTED if said.kind is MessageKind.ALERT else NotificationKind.WARNED
    people = await identity.who_may(work, whom, most=service.MOST_PEOPLE)
    return await service.tell(work, people, kind, thread.id, thread, cause=dedup, media=media, message_id=said.id)


async def _overshoots(work: UnitOfWork, agent_id: str, on: date) -> int:
    used = await budgets.used(work, on=on, at=datetime.combine(on, time(), UTC))
    counts = [one.overshot_calls for one in used if (one.agent_id, one.period) == (agent_id, Period.DAY)]
    return max([1, *counts])


def _of_period(fact: BudgetReached) -> str:
    what = f"cap on {fact.resource} for the {fact.period} from {fact.since} (UTC)"
    used = f"{_amount(fact.resource, fact.used)} of {_amount(fact.resource, fact.most, unit=True)}"
    agent = f" --agent {fact.subject.removeprefix(_AGENT)}" if fact.subject.startswith(_AGENT) else ""
    raising = f"Raise it: agentos budgets set {fact.period}{agent}."
    if fact.percent < FULL:
        return f"{fact.percent} % of the {what} are used up: {used}. {raising}"
    return f"The {what} is reached: {used} are used up, and calls that it has no room for are refused. {raising}"


def _of_run(fact: BudgetReached) -> str:
    whose = "that its version sets" if fact.of_version else f"for each run of {_named(fact.subject)}"
    used = f"{_amount(fact.resource, fact.used)} of {_amount(fact.resource, fact.most, unit=True)}"
    return (
        f"{fact.run_id} reached the cap on {fact.resource} {whose}: {used} are used up. Others that reach it on "
        f"{fact.since} (UTC) are not told here: agentos runs list --status blocked."
    )


def _of_overshoot(fact: BudgetOvershot, calls: int) -> str:
    many = "One call" if calls == 1 else f"{calls} calls"
    return (
        f"{many} on {fact.since} (UTC) cost more than was reserved. The last: {fact.run_id}, step {fact.step}, "
        f"{dollars(fact.billed_money)} {CURRENCY} and {fact.billed_tokens} tokens for a reserve of "
        f"{dollars(fact.reserved_money)} {CURRENCY} and {fact.reserved_tokens} tokens. All of it is counted."
    )


def _named(subject: str) -> str:
    return f"agent '{subject.removeprefix(_AGENT)}'" if subject.startswith(_AGENT) else "the organization"


def _amount(resource: str, value: int, *, unit: bool = False) -> str:
    money = resource == "money"
    amount = dollars(value) if money else str(value)
    return f"{amount} {CURRENCY if money else resource}" if unit else amount

"""The HTTP door to what was used."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Annotated, Any, Final

from fastapi import APIRouter, Query

from agentos.evidence.usage import service
from agentos.evidence.usage.model import MOST_DAYS, Burn, Counts, Dimension, Measure, Question, Source
from agentos.intake.identity.routes import Reader
from agentos.kernel.clock import now
from agentos.kernel.http import DoorsDep
from agentos.kernel.units import CURRENCY, dollars

router = APIRouter(prefix="/api/v1/usage", tags=["usage"])

LAST: Final = 7  # days, unless asked otherwise

Dimensions = Annotated[list[Dimension], Query(max_length=len(Dimension), description="What it is told apart by.")]
Name = Annotated[str, Query(max_length=63, pattern=r"^[a-z0-9_-]*$")]
Version = Annotated[str, Query(max_length=80, description="A hash, or how one begins.")]
Model = Annotated[str, Query(max_length=300, description="As it is told: PROVIDER/NAME.")]


@router.get("")
async def show_usage(
    caller: Reader,
    doors: DoorsDep,
    by: Dimensions = [],  # noqa: B006  # a default that FastAPI copies
    first: Measure | None = None,
    days: Annotated[int, Query(ge=1, le=MOST_DAYS, description="The last days of UTC, today included.")] = LAST,
    from_: Annotated[date | None, Query(alias="from", description="The first day of UTC, instead of 'days'.")] = None,
    to: Annotated[date | None, Query(description="The last day of UTC; else today.")] = None,
    agent: Name = "",
    version: Version = "",
    model: Model = "",
    skill: Annotated[str, Query(max_length=64)] = "",
    source: Source | None = None,
    limit: Annotated[int, Query(ge=1, le=1000, description="How many lines at most.")] = 200,
) -> dict[str, Any]:
    """Tokens, money and seconds of the organization, told apart as asked: by name, or with the most ``first``.

    Runs count once they are over, within seconds. A number is null where nobody said it.
    """
    until = to or now().astimezone(UTC).date()
    question = Question(
        from_ or _before(until, days), until, tuple(by), first or Measure.MONEY, agent, version, model, skill, source
    )
    async with doors.open(caller.organization) as work:
        found = await service.usage(work, question, in_order=first is None, most=limit)
    only = tuple(one for one, word in ((Dimension.MODEL, model), (Dimension.SKILL, skill)) if word)
    return {
        "currency": CURRENCY,
        "from": question.since,
        "to": question.until,
        "items": [{**line.of, **_counts(line.counts, (*question.by, *only))} for line in found.lines],
        "left_out": found.left_out,
        "total": _counts(found.total, only, open_runs=found.open_runs),
        "open_runs": found.open_runs,
    }


@router.get("/burn")
async def show_burn(caller: Reader, doors: DoorsDep) -> dict[str, Any]:
    """Each cap for a day or a month: the part that is used and reserved, and when it runs out at the rates of the last
    hour and day. A rate is null, and the outlook unknown, where nothing was measured."""
    at = now()
    async with doors.open(caller.organization) as work:
        found = await service.burn(work, at=at)
    return {"currency": CURRENCY, "at": at, "items": [_burn(one) for one in found]}


def _before(until: date, days: int) -> date:
    try:
        return until - timedelta(days=days - 1)
    except OverflowError:
        return until


def _counts(counts: Counts, by: tuple[Dimension, ...], *, open_runs: int = 0) -> dict[str, Any]:
    """Counts as they are told: null where what they are told by, or only of, says nothing of it, or nobody knows any.

    Where nothing is counted yet and runs are under way, what these used is what nobody knows.
    """
    of_model, of_skill = Dimension.MODEL in by, Dimension.SKILL in by
    pending = bool(open_runs) and counts == Counts()
    of_calls, of_skills = not (of_skill or pending), not (of_model or pending)
    priced = of_calls and (counts.calls > counts.unpriced_calls or not counts.unpriced_calls + counts.lost_calls)
    told = of_calls and (counts.calls > counts.untold_calls or not counts.untold_calls + counts.lost_calls)
    timed = of_calls and (
        bool(counts.model_seconds) or counts.calls > counts.untimed_calls or not counts.calls + counts.lost_calls
    )
    skills_timed = of_skills and (counts.skill_calls > counts.untimed_skills or not counts.skill_calls)
    return {
        "runs": counts.runs if of_calls and of_skills else None,
        "run_seconds": round(counts.run_seconds, 3) if of_calls and of_skills else None,
        "calls": counts.calls if of_calls else None,
        "fallback_calls": counts.fallback_calls if of_calls else None,
        "failed_calls": counts.failed_calls if of_calls else None,
        "money": dollars(counts.money) if priced else None,
        "input_tokens": counts.input_tokens if told else None,
        "output_tokens": counts.output_tokens if told else None,
        "cache_read_tokens": counts.cache_read_tokens,
        "cache_write_tokens": counts.cache_write_tokens,
        "reasoning_tokens": counts.reasoning_tokens,
        "model_seconds": round(counts.model_seconds, 3) if timed else None,
        "skill_calls": counts.skill_calls if of_skills else None,
        "skill_seconds": round(counts.skill_seconds, 3) if skills_timed else None,
        "unknown": {
            "calls": counts.untold_calls + counts.lost_calls,
            "unpriced_calls": counts.unpriced_calls,
            "lost_calls": counts.lost_calls,
            "untimed_calls": counts.untimed_calls + counts.untimed_skills,
            "money_counted": dollars(counts.unknown_money),
            "tokens_counted": counts.unknown_tokens,
            "said": counts.said(),
        },
    }


def _burn(one: Burn) -> dict[str, Any]:
    money = one.resource == "money"

    def amount(value: float | None) -> Any:
        return None if value is None else dollars(round(value)) if money else round(value, 2)

    return {
        "of": "agent" if one.agent_id else "organization",
        "agent": one.agent_id or None,
        "period": one.period,
        "since": one.since,
        "resource": one.resource,
        "limit": amount(one.most),
        "used": amount(one.used),
        "reserved": amount(one.reserved),
        "part": round(one.part, 4),
        "rates": {
            name: {
                "per_hour": amount(rate.per_hour),
                "outlook": rate.outlook,
                "runs_out_at": _second(rate.runs_out_at),
            }
            for name, rate in one.rates.items()
        },
    }


def _second(at: datetime | None) -> datetime | None:
    return None if at is None else at.replace(microsecond=0)

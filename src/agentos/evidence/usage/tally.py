"""What of a run's journal, a question, a replay, an eval and a lost call is counted, and where. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from typing import Any, Final

from agentos.control.budgets.model import ReserveLost
from agentos.evidence.evals.model import EvalAsked
from agentos.evidence.replay.model import ReplayAsked
from agentos.evidence.usage.model import Counts, Place, Source
from agentos.runtime.gateway.model import ModelAsked

OK: Final = "ok"
SKIPPED: Final = "skipped"
LEFT: Final = frozenset({"cancelled", "lost"})  # outcomes of a question that is in none of its attempts
_BY_ID: Final = {"ask_": Source.ASK, "eval_": Source.EVAL}  # what is no run and reserves of budgets, by its id

Tally = dict[Place, Counts]


@dataclass(frozen=True, slots=True)
class Ended:
    """A run that is over, as far as it is counted."""

    agent_id: str
    version: str
    accepted_at: datetime
    ended_at: datetime


@dataclass(frozen=True, slots=True)
class Row:
    """A row of a journal, as far as it is counted."""

    key: str
    phase: str
    kind: str
    name: str
    status: str
    at: datetime
    meta: Mapping[str, Any]


def of_run(run: Ended, rows: Iterable[Row]) -> Tally:
    """What a run used, each step on the day of its row, and the run on the day of its end."""
    tally: Tally = {}
    intents: dict[str, Row] = {}
    for row in rows:
        place = Place(_day(row.at), Source.RUN, run.agent_id, run.version)
        step = row.key.partition("~")[0]
        if row.phase == "intent":
            intents[step] = row
            continue
        if row.kind == "skill":
            intents.pop(step, None)
            if "tries" in row.meta or row.meta.get("sends"):
                _count(tally, _of_skill(place, row.name), _skill(row.meta.get("seconds")))
        fell_back = _failed(tally, place, row.meta)
        if row.kind == "model":
            where = _of_model(place, str(row.meta.get("provider", "")), row.name)
            _count(tally, where, _answer(row.meta, fell_back=fell_back))
    for row in intents.values():  # nobody knows how they ended; that they were sent is known
        _count(tally, _of_skill(Place(_day(row.at), Source.RUN, run.agent_id, run.version), row.name), _skill(None))
    seconds = max(0.0, (run.ended_at - run.accepted_at).total_seconds())
    last = Place(_day(run.ended_at), Source.RUN, run.agent_id, run.version)
    _count(tally, last, Counts(runs=1, run_seconds=seconds))
    return tally


def of_ask(fact: ModelAsked, at: datetime) -> Tally:
    """What a direct question used."""
    tally: Tally = {}
    place = Place(_day(at), Source.ASK)
    fell_back = False
    for number, said in enumerate(fact.attempts):
        name, _, outcome = said.rpartition(": ")
        fell_back = fell_back or (number == 0 and outcome != OK)
        if outcome not in (OK, SKIPPED):
            provider, _, model = name.partition("/")
            _count(tally, _of_model(place, provider, model), Counts(failed_calls=1))
    where = _of_model(place, fact.provider, fact.model)
    if fact.outcome == OK:
        _count(tally, where, _told(fact, fact.seconds, fell_back=fell_back))
    elif fact.outcome in LEFT:
        _count(tally, where, Counts(failed_calls=1))
    return tally


def of_replay(fact: ReplayAsked, at: datetime) -> Tally:
    """What a step that was asked again used."""
    place = Place(_day(at), Source.REPLAY, fact.agent_id, fact.version, fact.provider, fact.model)
    return {place: _told(fact, None, fell_back=False)}


def of_eval(fact: EvalAsked, at: datetime) -> Tally:
    """What answers to the agent or a judge of an eval used."""
    tally: Tally = {}
    place = Place(_day(at), Source.EVAL, fact.agent_id, fact.version)
    for one in fact.answers:
        fell_back = _failed(tally, place, one)
        where = _of_model(place, str(one.get("provider") or ""), str(one["model"]))
        _count(tally, where, _answer(one, fell_back=fell_back))
    return tally


def of_lost(fact: ReserveLost, version: str | None) -> Tally:
    """What budgets count for a call whose answer was lost. ``version`` is that of its run; None: it was no run's."""
    unlike = next((source for prefix, source in _BY_ID.items() if fact.run_id.startswith(prefix)), Source.REPLAY)
    source = Source.RUN if version is not None else unlike
    place = Place(date.fromisoformat(fact.since), source, fact.agent_id, version or "")
    return {place: Counts(lost_calls=1, unknown_money=fact.money, unknown_tokens=fact.tokens)}


def _failed(tally: Tally, place: Place, meta: Mapping[str, Any]) -> bool:
    """Count the attempts that had no answer; whether the first was among them."""
    attempts: Sequence[Any] = meta.get("attempts") or []
    for one in attempts:
        if one["outcome"] not in (OK, SKIPPED):
            where = _of_model(place, one["provider"], one["model"])
            _count(tally, where, Counts(failed_calls=1, model_seconds=one.get("seconds") or 0.0))
    return bool(attempts) and attempts[0]["outcome"] != OK


def _count(tally: Tally, place: Place, counts: Counts) -> None:
    tally.setdefault(place, Counts()).add(counts)


def _of_model(place: Place, provider: str, model: str) -> Place:
    return replace(place, provider=provider or "unknown", model=model)


def _of_skill(place: Place, skill: str) -> Place:
    return replace(place, skill=skill)


def _skill(seconds: float | None) -> Counts:
    return Counts(skill_calls=1, untimed_skills=int(seconds is None), skill_seconds=seconds or 0.0)


def _answer(meta: Mapping[str, Any], *, fell_back: bool) -> Counts:
    usage, cost = meta.get("usage") or {}, meta.get("cost")
    tokens = usage.get("input"), usage.get("output")
    if cost is None:  # of a release that kept none: budgets took its tokens, at no price
        cost = {"micros": 0, "tokens": sum(one or 0 for one in tokens), "unknown": True}
    besides = usage.get("cache_read"), usage.get("cache_write"), usage.get("reasoning")
    known = None if cost["unknown"] else cost["micros"]
    counted = (cost["micros"], cost["tokens"])
    return _answered(tokens, besides, known, counted, meta.get("seconds"), fell_back=fell_back)


def _told(fact: ModelAsked | ReplayAsked, seconds: float | None, *, fell_back: bool) -> Counts:
    tokens = fact.input_tokens, fact.output_tokens
    reasoning = fact.reasoning_tokens if isinstance(fact, ModelAsked) else None
    besides = fact.cache_read_tokens, fact.cache_write_tokens, reasoning
    counted = (fact.counted_micros or 0, fact.counted_tokens or 0)
    return _answered(tokens, besides, fact.micros, counted, seconds, fell_back=fell_back)


def _answered(
    tokens: tuple[int | None, int | None],
    besides: tuple[int | None, int | None, int | None],
    money: int | None,
    counted: tuple[int, int],
    seconds: float | None,
    *,
    fell_back: bool,
) -> Counts:
    into, out = tokens
    untold = into is None or out is None
    return Counts(
        calls=1,
        fallback_calls=int(fell_back),
        untold_calls=int(untold),
        unpriced_calls=int(money is None),
        untimed_calls=int(seconds is None),
        input_tokens=0 if untold else into or 0,
        output_tokens=0 if untold else out or 0,
        cache_read_tokens=besides[0],
        cache_write_tokens=besides[1],
        reasoning_tokens=besides[2],
        unknown_tokens=counted[1] if untold else 0,
        money=money or 0,
        unknown_money=counted[0] if money is None else 0,
        model_seconds=seconds or 0.0,
    )


def _day(at: datetime) -> date:
    return at.astimezone(UTC).date()

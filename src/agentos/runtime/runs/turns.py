"""One question to a model within a run, and its answer: from the journal, or anew and onto it."""

from __future__ import annotations

import json
from logging import DEBUG, INFO
from typing import Any, Final

import msgspec
import structlog

from agentos.control.privacy import service as privacy
from agentos.kernel.schemas import misfit
from agentos.kernel.telemetry.catalogue import MODEL_CALLS, MODEL_SECONDS, MODEL_TOKENS
from agentos.runtime.inference import Answer, Message, Question, Stop, routing
from agentos.runtime.inference.gate import Attempt, Unanswered
from agentos.runtime.inference.model import ContentBlocked
from agentos.runtime.runs import bills, hops
from agentos.runtime.runs.hops import Hops
from agentos.runtime.runs.journal import Entry
from agentos.runtime.runs.model import AnswerCut, TokensUsedUp
from agentos.runtime.runs.prompts import Prompts
from agentos.runtime.runs.segment import HandOver, Interrupted, Segment

log = structlog.get_logger(__name__)

MICROS_PER_CENT: Final = 10_000


async def ask(segment: Segment, key: str, conversation: tuple[Message, ...]) -> Answer:
    """A model's answer to the conversation, from the journal or anew."""
    recorded = segment.journal.result(key)
    policy, parts = segment.definition.model, segment.parts
    name = str(policy.get("name", ""))
    if recorded is not None:
        answer = msgspec.convert(recorded.content, Answer)
        segment.answered_to = len(conversation)
        bills.counted_input(segment, recorded.meta.get("asked", name), len(conversation), answer)
        if recorded.meta.get("stands_in"):
            segment.recommend_only()
        return answer
    route, router = routing.read(policy), parts.router
    inside = all(router.instant(one) for one in route.every)
    if segment.inline and not inside:
        raise HandOver
    await segment.may_begin(surely=not inside)
    told_to_model, redacted = await _told(segment, conversation)
    question = Question(
        model=name,
        system=_system(segment),
        messages=told_to_model,
        tools=segment.tools,
        max_tokens=int(policy.get("max_tokens", 4096)),
        schema=segment.definition.output_schema,
        timeout=router.timeout,
        options=policy,
    )
    plan = router.plan(route, await hops.circumstances(segment, route, question))
    gate, attempts = Hops(segment, key), list[Attempt]()
    try:
        routed = await router.ask(plan, question, gate=gate, attempts=attempts, within=hops.seconds_left(segment))
    except Unanswered as none:
        raise (await gate.unanswered(none.error, attempts)) from none.error
    except Interrupted:
        if attempts:
            await gate.record("interrupted", attempts)
        raise
    finally:
        _log_failed(key, attempts)
    answer, seconds = routed.answer, routed.seconds
    parts.meter.observe(MODEL_SECONDS, seconds, provider=answer.provider)
    segment.count(MODEL_CALLS, provider=answer.provider, status="ok")
    for direction, tokens in (("input", answer.usage.input), ("output", answer.usage.output)):
        if tokens:
            parts.meter.count(MODEL_TOKENS, tokens, **segment.labels, provider=answer.provider, direction=direction)
    told = msgspec.to_builtins(answer)
    meta = {"provider": answer.provider, "model": answer.model, "stop": answer.stop, "usage": told["usage"]}
    meta["seconds"] = round(seconds, 4)
    cost = meta["cost"] = await bills.settle(segment, routed.question, answer)
    log.log(
        DEBUG if router.instant(routed.candidate) else INFO,
        "model_answered",
        provider=answer.provider,
        model=answer.model,
        step=key,
        seconds=round(seconds, 4),
        cost_cents=None if cost["unknown"] else cost["micros"] / MICROS_PER_CENT,
    )
    if routed.question.model != name:
        meta["asked"] = routed.question.model
    if len(attempts) > 1 or not route.plain:
        meta["attempts"] = [one.record() for one in attempts]
    if routed.candidate.stands_in:
        meta["stands_in"] = True
        segment.recommend_only()
    if redacted:
        meta["redacted"] = redacted
    entry = Entry(key, "result", "model", answer.model, "ok", meta, told)
    if _writes_next(segment, answer):
        segment.hold(entry)
    else:
        await segment.record(entry)
    return answer


def _log_failed(key: str, attempts: list[Attempt]) -> None:
    """Tell the log which models had no answer, by code. What was asked and said stays in the journal."""
    for one in attempts:
        if one.outcome not in ("ok", "skipped"):
            log.warning("model_failed", provider=one.provider, model=one.model, step=key, code=one.outcome)


async def _told(segment: Segment, conversation: tuple[Message, ...]) -> tuple[tuple[Message, ...], dict[str, int]]:
    """The conversation as the model is told it, and what was kept back from what is new in it."""
    mode, parts, run = segment.definition.prompts, segment.parts, segment.claimed.run
    if mode is None:
        return conversation, {}
    if segment.prompts is None:
        async with parts.doors.open(run.organization) as work:
            rules = privacy.for_prompts(await privacy.rules_of(work, parts.privacy), mode)
        segment.prompts = Prompts(parts.privacy, rules, segment.definition, segment.skills, run.input)
        await segment.prompts.of(conversation[: segment.answered_to])  # what an earlier segment told is counted there
    return await segment.prompts.of(conversation)


def _writes_next(segment: Segment, answer: Answer) -> bool:
    """Whether the next thing to happen is an append, of the first call's intent or of why it is refused."""
    if not answer.calls or answer.stop is not Stop.CALLS:
        return False
    one = segment.skills.get(answer.calls[0].skill)
    return one is None or not one.read_only


def check_answer(segment: Segment, answer: Answer, spent: int) -> None:
    """Raises ContentBlocked, AnswerCut or TokensUsedUp where a run cannot go on from an answer."""
    if answer.stop is Stop.REFUSAL:
        raise ContentBlocked("the model declined to answer", then="See the journal for what it was asked.")
    if answer.stop is Stop.LIMIT:
        raise AnswerCut("the model's answer was cut at its limit", then="Raise spec.model.max_tokens.")
    allowed = segment.definition.budgets.tokens
    if allowed is not None and spent > allowed:
        raise TokensUsedUp(
            f"the run used {spent} of the {allowed} tokens that its version allows", then="Raise spec.budgets.tokens."
        )


def _system(segment: Segment) -> str:
    schema = segment.definition.output_schema
    if schema is None:
        return segment.definition.instructions
    return f"{segment.definition.instructions}\n\nAnswer with JSON that fits this schema:\n{json.dumps(schema)}"


def read_output(schema: dict[str, Any] | None, text: str) -> tuple[Any, str | None]:
    """The model's last text as output, and what is wrong with it, if anything is."""
    if schema is None:
        return text, None
    try:
        output = json.loads(text)
    except (json.JSONDecodeError, RecursionError):
        return None, "it is not JSON"
    error = misfit(schema, output)
    return (output, None) if error is None else (None, f"{error.json_path}: {error.message[:300]}")

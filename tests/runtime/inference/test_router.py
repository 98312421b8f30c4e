"""The router alone: which model answers, what each failure leads to, and what it costs to go on."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from agentos.kernel.errors import AgentOSError, Exhausted, Unavailable
from agentos.kernel.telemetry import Meter
from agentos.runtime.inference import Answer, Model, Question, Stop
from agentos.runtime.inference import model as m
from agentos.runtime.inference.breaker import State
from agentos.runtime.inference.gate import Attempt, Gate, NotThis, Routed, Unanswered
from agentos.runtime.inference.router import Router
from agentos.runtime.inference.routing import Candidate, read
from agentos.runtime.inference.settings import RouterSettings
from tests.runtime.inference.fakes import QUESTION, Clock, Fake, Fakes, chain

FALLS = [
    m.ModelRateLimited("slow down", retry_after=timedelta(seconds=9)),
    m.ModelOverloaded("529"),
    m.ModelTimedOut("late"),
    m.ModelUnavailable("gone"),
    m.ModelMisbehaved("garbage"),
    m.ModelNotConfigured("no key"),
    m.ModelRefusedKey("bad key"),
    m.ModelUnknown("no such model"),
]
ENDS = [m.ModelRejectedRequest("malformed"), m.ContentBlocked("no")]


def router(*models: Fake, clock: Any = None, **settings: Any) -> Router:
    more = {} if clock is None else {"clock": clock}
    return Router(Fakes(*models), RouterSettings.read(**settings), Meter(), luck=lambda: 0.0, **more)


async def ask(
    held: Router, policy: dict[str, Any], question: Question = QUESTION, **more: Any
) -> tuple[Routed, list[Attempt]]:
    attempts: list[Attempt] = []
    return await held.ask(held.plan(read(policy)), question, attempts=attempts, **more), attempts


async def refused(held: Router, policy: dict[str, Any], **more: Any) -> AgentOSError:
    with pytest.raises(Unanswered) as caught:
        await ask(held, policy, **more)
    assert caught.value.error is not None
    return caught.value.error


async def test_the_versions_own_model_answers_first() -> None:
    own, other = Fake("a"), Fake("b")
    routed, attempts = await ask(router(own, other), chain("a", "b"))
    assert routed.answer.provider == "a"
    assert [(one.provider, one.outcome, one.why) for one in attempts] == [("a", "ok", "the version's own model")]
    assert not other.asked


@pytest.mark.parametrize("error", FALLS, ids=lambda error: error.code)
async def test_a_fault_of_the_model_leads_to_the_next_one(error: AgentOSError) -> None:
    own, other = Fake("a", else_=error), Fake("b")
    routed, attempts = await ask(router(own, other), chain("a", "b"))
    assert routed.answer.provider == "b"
    assert [(one.provider, one.outcome) for one in attempts] == [("a", error.code), ("b", "ok")]
    assert attempts[1].why == "fallback 1"


@pytest.mark.parametrize("error", ENDS, ids=lambda error: error.code)
async def test_a_fault_of_the_question_is_told_and_no_other_model_is_asked(error: AgentOSError) -> None:
    own, other = Fake("a", else_=error), Fake("b")
    assert await refused(router(own, other), chain("a", "b")) is error
    assert not other.asked


async def test_a_declined_question_goes_on_only_where_the_policy_says_so() -> None:
    declined = Answer("", "a", "a-1", stop=Stop.REFUSAL)
    own, other = Fake("a", next=[m.ContentBlocked("no"), declined]), Fake("b")
    policy = chain("a", "b", routing={"on_blocked": "fallback"})
    held = router(own, other)
    for _ in range(2):
        routed, attempts = await ask(held, policy)
        assert routed.answer.provider == "b"
        assert attempts[0].outcome == m.ContentBlocked.code


async def test_a_question_too_long_goes_only_to_a_model_that_is_known_to_read_more() -> None:
    own, same, unknown, more = (Fake(name) for name in "abcd")
    own.else_ = m.ContextTooLong("too long")
    policy = chain("a", "b", "c", "d") | {"context": 1000}
    for place, context in ((0, 1000), (2, 5000)):
        policy["fallback"][place]["context"] = context
    routed, attempts = await ask(router(own, same, unknown, more), policy)
    assert routed.answer.provider == "d"
    assert [one.outcome for one in attempts] == [m.ContextTooLong.code, "skipped", "skipped", "ok"]
    assert "reads no more" in attempts[1].why
    assert "not said" in attempts[2].why


async def test_when_none_answers_the_error_that_passes_soonest_is_told() -> None:
    away = m.ModelOverloaded("529", retry_after=timedelta(seconds=3))
    soon = m.ModelRateLimited("429", retry_after=timedelta(seconds=1))
    models = Fake("a", else_=m.ModelRefusedKey("bad key")), Fake("b", else_=away), Fake("c", else_=soon)
    assert await refused(router(*models), chain("a", "b", "c")) is soon


async def test_each_model_is_asked_by_its_own_name_and_options_and_no_other_words_of_the_policy() -> None:
    own, other = Fake("a", else_=m.ModelUnavailable("gone")), Fake("b")
    policy = chain("a", "b", max_tokens=77, temperature=0.5)
    policy["fallback"][0]["thinking"] = "model_default"
    await ask(router(own, other), policy)
    assert own.asked[0].options == {"provider": "a", "name": "a-1", "max_tokens": 77, "temperature": 0.5}
    assert other.asked[0].options == {"provider": "b", "name": "b-1", "max_tokens": 77, "thinking": "model_default"}
    assert (other.asked[0].model, other.asked[0].max_tokens) == ("b-1", 77)


async def test_the_runs_time_and_the_api_timeout_bound_each_call() -> None:
    own = Fake("a")
    held = router(own, api_timeout=30_000)
    await ask(held, {"provider": "a", "name": "a-1"})
    await ask(held, {"provider": "a", "name": "a-1"}, within=2.0)
    assert [one.timeout.total_seconds() for one in own.asked] == [30.0, pytest.approx(2.0, abs=0.1)]


async def test_a_model_that_hangs_costs_its_timeout_and_then_the_next_one_answers() -> None:
    async def hang(_question: Question) -> None:
        await asyncio.sleep(60)

    own, other = Fake("a", else_=hang), Fake("b")
    held = router(own, other, api_timeout=20)
    routed, attempts = await ask(held, chain("a", "b"))
    assert routed.answer.provider == "b"
    assert attempts[0].outcome == m.ModelTimedOut.code


async def test_no_time_left_is_told_and_nothing_is_asked() -> None:
    own = Fake("a")
    error = await refused(router(own), {"provider": "a", "name": "a-1"}, within=0.0)
    assert isinstance(error, m.ModelTimedOut)
    assert not own.asked


async def test_an_open_breaker_keeps_callers_away_and_a_probe_of_one_token_closes_it() -> None:
    clock = Clock()
    own, other = Fake("a", else_=m.ModelOverloaded("529")), Fake("b")
    held = router(own, other, clock=clock, breaker_failures=2)
    for _ in range(2):
        await ask(held, chain("a", "b"))
    assert held.watch.standings()[0].state is State.OPEN
    _, attempts = await ask(held, chain("a", "b"))
    assert attempts[0].outcome == "skipped"
    assert len(own.asked) == 2
    own.else_ = None
    clock.time += held.settings.breaker_seconds
    await ask(held, chain("a", "b"))  # it is this caller who has the probe sent, and does not wait for it
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    probe = own.asked[2]
    assert (probe.max_tokens, probe.messages[0].text, probe.options) == (1, "ping", {"provider": "a", "name": "a-1"})
    assert held.watch.standings()[0].state is State.CLOSED
    routed, _ = await ask(held, chain("a", "b"))
    assert routed.answer.provider == "a"


async def test_a_failed_probe_keeps_the_breaker_open_and_costs_no_caller_anything() -> None:
    clock = Clock()
    own, other = Fake("a", else_=m.ModelOverloaded("529")), Fake("b")
    held = router(own, other, clock=clock, breaker_failures=1)
    await ask(held, chain("a", "b"))
    for _ in range(5):
        clock.time += held.settings.breaker_most_seconds
        _, attempts = await ask(held, chain("a", "b"))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert attempts[0].outcome == "skipped"
    assert held.watch.standings()[0].state is State.OPEN


async def test_a_provider_that_asked_to_be_left_alone_is_until_then() -> None:
    clock = Clock()
    own, other = Fake("a", next=[m.ModelRateLimited("429", retry_after=timedelta(seconds=5))]), Fake("b")
    held = router(own, other, clock=clock)
    answered = []
    for _ in range(2):
        answered.append((await ask(held, chain("a", "b")))[0].answer.provider)
    assert len(own.asked) == 1
    clock.time += 5
    answered.append((await ask(held, chain("a", "b")))[0].answer.provider)
    assert answered == ["b", "b", "a"]


async def test_a_single_model_that_is_away_is_told_with_the_time_to_come_back() -> None:
    clock = Clock()
    own = Fake("a", else_=m.ModelOverloaded("529"))
    held = router(own, clock=clock, breaker_failures=1)
    await refused(held, {"provider": "a", "name": "a-1"})
    error = await refused(held, {"provider": "a", "name": "a-1"})
    assert isinstance(error, Unavailable)
    assert error.retry_after == timedelta(seconds=held.settings.breaker_seconds)


async def test_with_patience_models_that_all_failed_are_asked_again() -> None:
    own = Fake("a", next=[m.ModelOverloaded("529"), m.ModelOverloaded("529")])
    held = router(own, pause_seconds=0.001)
    routed, attempts = await ask(held, {"provider": "a", "name": "a-1"}, patience=5.0)
    assert routed.answer.provider == "a"
    assert [one.outcome for one in attempts] == [m.ModelOverloaded.code] * 2 + ["ok"]


async def test_a_retry_after_beyond_the_patience_is_told_and_not_waited_for() -> None:
    own = Fake("a", else_=m.ModelRateLimited("429", retry_after=timedelta(seconds=60)))
    error = await refused(router(own), {"provider": "a", "name": "a-1"}, patience=5.0)
    assert error.retry_after == timedelta(seconds=60)
    assert len(own.asked) == 1


async def test_a_provider_has_at_most_so_many_calls_under_way() -> None:
    running, most = 0, 0

    async def count(_question: Question) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.001)
        running -= 1

    held = router(Fake("a", else_=count), concurrency=3)
    await asyncio.gather(*(ask(held, {"provider": "a", "name": "a-1"}) for _ in range(20)))
    assert most == 3


async def test_a_call_that_finds_no_place_in_time_goes_to_the_next_model() -> None:
    gate = asyncio.Event()

    async def wait(_question: Question) -> None:
        await gate.wait()

    own, other = Fake("a", else_=wait), Fake("b")
    held = router(own, other, concurrency=1)
    first = asyncio.create_task(ask(held, chain("a", "b")))
    await asyncio.sleep(0.01)
    routed, _ = await ask(held, chain("a", "b"), replace(QUESTION, timeout=timedelta(milliseconds=20)))
    assert routed.answer.provider == "b"
    gate.set()
    assert (await first)[0].answer.provider == "a"


async def test_cancelling_a_call_reaches_the_model_and_counts_against_nobody() -> None:
    ended = []

    async def hang(_question: Question) -> None:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            ended.append("cancelled")
            raise

    held = router(Fake("a", else_=hang), concurrency=1)
    task = asyncio.create_task(ask(held, {"provider": "a", "name": "a-1"}))
    await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ended == ["cancelled"]
    assert held.watch.standings() == []
    assert not held._slots["a"].locked()


class Keeper(Gate):
    """A gate that refuses what it is told to, and keeps what it is told."""

    def __init__(self, *, refuse: str = "", shut: str = "", raises: AgentOSError | None = None) -> None:
        self.refuse, self.shut, self.raises = refuse, shut, raises
        self.opened: list[tuple[int, str]] = []
        self.ended: list[tuple[str, str, bool, bool]] = []

    def refuses(self, candidate: Candidate) -> str | None:
        return "denied by a stop" if candidate.provider == self.refuse else None

    async def opens(self, hop: int, model: Model, question: Question) -> None:
        if self.raises is not None:
            raise self.raises
        if model.provider == self.shut:
            raise NotThis("the budget has no room for it")
        self.opened.append((hop, question.model))

    def failed(self, candidate: Candidate, error: AgentOSError, *, opened: bool, answered: bool) -> None:
        self.ended.append((candidate.provider, error.code, opened, answered))


async def test_the_caller_is_asked_before_every_hop() -> None:
    models = Fake("a"), Fake("b", else_=m.ModelUnavailable("gone")), Fake("c"), Fake("d")
    gate = Keeper(refuse="a", shut="c")
    routed, attempts = await ask(router(*models), chain("a", "b", "c", "d"), gate=gate)
    assert routed.answer.provider == "d"
    assert gate.opened == [(1, "b-1"), (3, "d-1")]
    assert gate.ended == [("b", m.ModelUnavailable.code, True, False)]
    assert [one.why for one in attempts if one.outcome == "skipped"] == [
        "denied by a stop",
        "the budget has no room for it",
    ]
    assert not models[0].asked
    assert not models[2].asked


async def test_what_the_caller_raises_ends_the_call_as_it_is() -> None:
    full, other = Exhausted("no room"), Fake("b")
    with pytest.raises(Exhausted) as caught:
        await ask(router(Fake("a"), other), chain("a", "b"), gate=Keeper(raises=full))
    assert caught.value is full
    assert not other.asked


async def test_when_the_caller_refuses_every_model_there_is_no_error_to_tell() -> None:
    with pytest.raises(Unanswered) as caught:
        await ask(router(Fake("a")), {"provider": "a", "name": "a-1"}, gate=Keeper(refuse="a"))
    assert caught.value.error is None


async def test_a_probe_never_goes_to_a_provider_that_the_caller_refuses() -> None:
    clock, own, other = Clock(), Fake("a", else_=m.ModelOverloaded("529")), Fake("b")
    held = router(own, other, clock=clock, breaker_failures=1)
    await ask(held, chain("a", "b"))
    clock.time += 60
    await ask(held, chain("a", "b"), gate=Keeper(refuse="a"))
    await asyncio.sleep(0)
    assert len(own.asked) == 1


async def test_faults_of_one_call_in_five_are_seen_by_no_caller() -> None:
    number = 0

    def sometimes(_question: Question) -> AgentOSError | None:
        nonlocal number
        number += 1
        return FALLS[number % 3 + 1] if number % 5 == 0 else None

    held = router(Fake("a", else_=sometimes), Fake("b"))
    answered = [(await ask(held, chain("a", "b")))[0].answer.provider for _ in range(1000)]
    assert (answered.count("a"), answered.count("b")) == (800, 200)

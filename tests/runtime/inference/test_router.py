"""The router alone: which model answers, what each failure leads to, and what it costs to go on."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from agentos.kernel.errors import AgentOSError, Exhausted
from agentos.runtime.inference import Answer, Question, Stop
from agentos.runtime.inference import model as m
from agentos.runtime.inference.gate import Unanswered
from tests.runtime.inference.fakes import Fake, chain
from tests.runtime.inference.routers import Keeper, ask, refused, router

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


async def test_the_caller_is_asked_before_every_hop() -> None:
    models = Fake("a"), Fake("b", else_=m.ModelUnavailable("gone")), Fake("c"), Fake("d")
    gate = Keeper(refuse="a", shut="c")
    routed, attempts = await ask(router(*models), chain("a", "b", "c", "d"), gate=gate)
    assert routed.answer.provider == "d"
    assert gate.opened == [(1, "b-1"), (3, "d-1")]
    assert [one[:2] for one in gate.ended] == [("b", m.ModelUnavailable.code)]
    assert gate.free == 0, "what broke off may be billed"
    assert [one.why for one in attempts if one.outcome == "skipped"] == [
        "denied by a stop",
        "the budget has no room for it",
    ]
    assert not models[0].asked
    assert not models[2].asked


async def test_what_was_opened_for_a_model_that_refused_is_let_go() -> None:
    gate = Keeper()
    models = Fake("a", else_=m.ModelOverloaded("529", begun=False)), Fake("b")
    await ask(router(*models), chain("a", "b"), gate=gate)
    assert (gate.opened, gate.free) == ([(0, "a-1"), (1, "b-1")], 1)


async def test_a_model_that_is_not_configured_was_not_asked() -> None:
    gate = Keeper()
    await ask(router(Fake("a", else_=m.ModelNotConfigured("no key")), Fake("c")), chain("a", "b", "c"), gate=gate)
    assert gate.ended == []
    assert gate.free == 1


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


async def test_faults_of_one_call_in_five_are_seen_by_no_caller() -> None:
    number = 0

    def sometimes(_question: Question) -> AgentOSError | None:
        nonlocal number
        number += 1
        return FALLS[number % 3 + 1] if number % 5 == 0 else None

    held = router(Fake("a", else_=sometimes), Fake("b"))
    answered = [(await ask(held, chain("a", "b")))[0].answer.provider for _ in range(1000)]
    assert (answered.count("a"), answered.count("b")) == (800, 200)

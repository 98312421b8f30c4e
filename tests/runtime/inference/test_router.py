"""The router alone: which model answers, what each failure leads to, and what it costs to go on."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
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
    return Router(Fakes(*models), RouterSettings.read(**settings), Meter(), **more)


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


async def test_the_short_time_of_one_caller_opens_no_breaker() -> None:
    async def hang(_question: Question) -> None:
        await asyncio.sleep(60)

    held = router(Fake("a", else_=hang), breaker_failures=1)
    for _ in range(3):
        assert isinstance(await refused(held, {"provider": "a", "name": "a-1"}, within=0.02), m.ModelTimedOut)
    assert held.watch.standings() == []
    await asyncio.wait_for(_hanging(held), 5)
    assert [one.state for one in held.watch.standings()] == []


async def _hanging(held: Router) -> None:
    deadline = {"provider": "a", "name": "a-1", "routing": {"deadline": "0.02s"}}
    assert isinstance(await refused(held, deadline), m.ModelTimedOut)


async def test_a_time_out_that_the_provider_brought_about_itself_counts_as_its_outage() -> None:
    held = router(Fake("a", else_=m.ModelTimedOut("it fell silent")), breaker_failures=1)
    await refused(held, {"provider": "a", "name": "a-1"}, within=30.0)
    assert held.watch.standings()[0].state is State.OPEN


async def test_a_model_that_hangs_for_the_whole_api_timeout_opens_its_breaker() -> None:
    async def hang(_question: Question) -> None:
        await asyncio.sleep(60)

    held = router(Fake("a", else_=hang), breaker_failures=1, api_timeout=10)
    await refused(held, {"provider": "a", "name": "a-1"}, within=30.0)
    assert held.watch.standings()[0].state is State.OPEN


@pytest.mark.parametrize("providers", [["a"], ["a", "b"]])
async def test_the_first_caller_after_an_outage_waits_for_the_probe_where_no_other_model_is_left(
    providers: list[str],
) -> None:
    clock, own = Clock(), Fake("a", else_=m.ModelOverloaded("529"))
    held = router(own, Fake("b", else_=m.ModelNotConfigured("no key")), clock=clock, breaker_failures=1)
    await refused(held, chain(*providers))
    own.else_ = None
    clock.time += 60
    routed, attempts = await ask(held, chain(*providers))
    assert routed.answer.provider == "a"
    assert (attempts[0].outcome, attempts[-1].outcome) == ("skipped", "ok")
    assert own.asked[1].messages[0].text == "ping"


async def test_a_caller_waits_for_a_probe_no_longer_than_its_own_time() -> None:
    clock, own = Clock(), Fake("a", else_=m.ModelOverloaded("529"))
    held = router(own, clock=clock, breaker_failures=1)
    await refused(held, {"provider": "a", "name": "a-1"})
    began = asyncio.Event()

    async def hang(_question: Question) -> None:
        began.set()
        await asyncio.sleep(60)

    own.else_ = hang
    clock.time += 60
    error = await refused(held, {"provider": "a", "name": "a-1"}, within=0.02)
    assert began.is_set()
    assert error.retry_after == timedelta(seconds=held.settings.probe_seconds), "never at once: the probe is under way"
    await held.watch.close()


async def test_a_single_model_that_is_away_is_told_with_the_time_to_come_back() -> None:
    clock = Clock()
    own = Fake("a", else_=m.ModelOverloaded("529"))
    held = router(own, clock=clock, breaker_failures=1)
    await refused(held, {"provider": "a", "name": "a-1"})
    error = await refused(held, {"provider": "a", "name": "a-1"})
    assert isinstance(error, Unavailable)
    assert error.retry_after == timedelta(seconds=held.settings.breaker_seconds)


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


async def test_a_place_that_comes_free_in_the_very_moment_the_wait_is_over_is_not_lost() -> None:
    leave = asyncio.Event()

    async def wait(_question: Question) -> None:
        await leave.wait()

    class Slow(Gate):
        """A caller that learns of the place only when its time is up."""

        async def carry(self, model: Model, work: Coroutine[Any, Any, Any]) -> Any:
            done = asyncio.ensure_future(work)
            await asyncio.wait((done,))
            if not held._slots["a"].locked() or own.asked:
                raise_now.set()
            await forever.wait()
            return done.result()

    own, other = Fake("a", next=[wait]), Fake("b")
    held, raise_now, forever = router(own, other, concurrency=1), asyncio.Event(), asyncio.Event()
    first = asyncio.create_task(ask(held, chain("a", "b")))
    while not own.asked:
        await asyncio.sleep(0)
    late = asyncio.create_task(ask(held, {"provider": "a", "name": "a-1"}, gate=Slow()))
    await asyncio.sleep(0)
    leave.set()
    await first
    await raise_now.wait()
    late.cancel()
    with pytest.raises(asyncio.CancelledError):
        await late
    assert not held._slots["a"].locked()
    await asyncio.wait_for(ask(held, {"provider": "a", "name": "a-1"}), 5)


class Limit:
    """A limit that is full or not, and keeps what became of its grants."""

    def __init__(self, *, full: bool = False) -> None:
        self.full, self.log = full, list[str]()

    def limits(self, provider: str) -> bool:
        return provider == "a"

    async def take(self, provider: str, tokens: int, *, within: float) -> Limit:
        self.log.append("take")
        if self.full:
            raise m.ModelRateLimited(f"the limit of {provider} has no room for {tokens} in {within} s")
        return self

    def settle(self, tokens: int | None) -> None:
        self.log.append(f"settle {tokens}")

    def give_back(self) -> None:
        self.log.append("give back")


def limited(limit: Limit, *models: Fake) -> Router:
    return Router(Fakes(*models), RouterSettings.read(), Meter(), limit)


async def test_the_limits_room_is_taken_only_once_the_caller_has_opened_the_hop() -> None:
    limit, own = Limit(), Fake("a")

    class Logged(Keeper):
        async def opens(self, hop: int, model: Model, question: Question) -> None:
            limit.log.append("opens")
            await super().opens(hop, model, question)

    await ask(limited(limit, own), {"provider": "a", "name": "a-1"}, gate=Logged())
    assert limit.log == ["opens", "take", "settle 15"]
    limit.log.clear()
    with pytest.raises(Unanswered):
        await ask(limited(limit, own), {"provider": "a", "name": "a-1"}, gate=Logged(shut="a"))
    assert limit.log == ["opens"]


async def test_what_the_caller_opened_is_let_go_where_the_limit_has_no_room() -> None:
    gate, own = Keeper(), Fake("a")
    held = limited(Limit(full=True), own, Fake("b"))
    routed, attempts = await ask(held, chain("a", "b"), gate=gate)
    assert routed.answer.provider == "b"
    assert [one.outcome for one in attempts] == [m.ModelRateLimited.code, "ok"]
    assert (gate.opened, gate.free, gate.ended) == ([(0, "a-1"), (1, "b-1")], 1, [])
    assert not own.asked
    assert [one.provider for one in held.watch.standings()] == ["b"], "our own limit says nothing of the model"


@pytest.mark.parametrize("breaks", [asyncio.CancelledError, Exhausted("stopped")])
async def test_room_that_was_given_to_a_call_that_was_broken_off_before_it_was_sent_is_given_back(breaks: Any) -> None:
    class Breaks(Keeper):
        async def carry(self, model: Model, work: Coroutine[Any, Any, Any]) -> Any:
            await work
            raise breaks

    limit, own, gate = Limit(), Fake("a"), Breaks()
    with pytest.raises((asyncio.CancelledError, Exhausted)):
        await ask(limited(limit, own), {"provider": "a", "name": "a-1"}, gate=gate)
    assert limit.log == ["take", "give back"]
    assert gate.free == 1
    assert not own.asked


async def test_the_time_that_is_told_of_a_model_is_its_own_and_not_that_of_a_wait_before() -> None:
    clock = Clock()

    class Late(Keeper):
        async def opens(self, hop: int, model: Model, question: Question) -> None:
            clock.time += 5

    def answers(_question: Question) -> AgentOSError | None:
        clock.time += 2
        return m.ModelOverloaded("529") if len(own.asked) == 1 else None

    own = Fake("a", else_=answers)
    held, gate = router(own, clock=clock), Late()
    await refused(held, {"provider": "a", "name": "a-1"}, gate=gate)
    assert gate.ended == [("a", m.ModelOverloaded.code, 2)]
    routed, attempts = await ask(held, {"provider": "a", "name": "a-1"}, gate=gate)
    assert (routed.seconds, attempts[0].seconds) == (2, 7)


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
        self.free = 0
        self.ended: list[tuple[str, str, float]] = []

    def refuses(self, candidate: Candidate) -> str | None:
        return "denied by a stop" if candidate.provider == self.refuse else None

    async def opens(self, hop: int, model: Model, question: Question) -> None:
        if self.raises is not None:
            raise self.raises
        if model.provider == self.shut:
            raise NotThis("the budget has no room for it")
        self.opened.append((hop, question.model))

    def released(self) -> None:
        self.free += 1

    def failed(self, candidate: Candidate, error: AgentOSError, seconds: float) -> None:
        self.ended.append((candidate.provider, error.code, seconds))


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

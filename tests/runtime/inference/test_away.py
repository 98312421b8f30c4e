"""A model that is away is left alone, probed, and asked again once it answers."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from agentos.kernel.errors import Unavailable
from agentos.runtime.inference import Question
from agentos.runtime.inference import model as m
from agentos.runtime.inference.breaker import State
from agentos.runtime.inference.router import Router
from tests.runtime.inference.fakes import Clock, Fake, chain
from tests.runtime.inference.routers import Keeper, ask, refused, router


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
        await asyncio.sleep(60)  # hangs: it is given up on long before

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
        await asyncio.sleep(60)  # hangs: it is given up on long before

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
        await asyncio.sleep(60)  # hangs: it is given up on long before

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


async def test_a_probe_never_goes_to_a_provider_that_the_caller_refuses() -> None:
    clock, own, other = Clock(), Fake("a", else_=m.ModelOverloaded("529")), Fake("b")
    held = router(own, other, clock=clock, breaker_failures=1)
    await ask(held, chain("a", "b"))
    clock.time += 60
    await ask(held, chain("a", "b"), gate=Keeper(refuse="a"))
    await asyncio.sleep(0)
    assert len(own.asked) == 1

"""How many calls a provider gets at once, and that no place and no room is lost."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from agentos.kernel.errors import AgentOSError, Exhausted
from agentos.kernel.telemetry import Meter
from agentos.runtime.inference import Model, Question
from agentos.runtime.inference import model as m
from agentos.runtime.inference.gate import Gate, Unanswered
from agentos.runtime.inference.router import Router
from agentos.runtime.inference.settings import RouterSettings
from tests.runtime.inference.fakes import QUESTION, Clock, Fake, Fakes, chain
from tests.runtime.inference.routers import Keeper, ask, refused, router


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
            await asyncio.sleep(60)  # hangs: it is given up on long before
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

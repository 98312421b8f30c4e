"""Limits that all processes share, in a real PostgreSQL; the clock of the window is a test's."""

from __future__ import annotations

import asyncio
import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pytest
from hypothesis import given, settings
from hypothesis.strategies import floats, integers, lists, sampled_from, tuples

from agentos.kernel.database import Database
from agentos.runtime.inference import limits
from agentos.runtime.inference.gate import Attempt
from agentos.runtime.inference.limits import SharedLimits
from agentos.runtime.inference.model import ModelOverloaded, ModelRateLimited
from agentos.runtime.inference.router import Router
from agentos.runtime.inference.routing import read
from agentos.runtime.inference.settings import RouterSettings
from tests.runtime.inference.fakes import QUESTION, Fake, Fakes, chain

TAKE = "SELECT grants, wait FROM model_limit_take($1, $2, $3, 60, $4, $5)"
START = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
def provider() -> str:
    """A provider that no other test asks."""
    return f"p{uuid.uuid4().hex}"


def limit_of(provider: str, requests: int = 0, tokens: int = 0) -> RouterSettings:
    return RouterSettings.read(rate_limits=f"{provider}={requests}/{tokens}")


def shared(database: Database, provider: str, requests: int = 0, tokens: int = 0) -> SharedLimits:
    return SharedLimits(database, limit_of(provider, requests, tokens))


async def used(database: Database, provider: str) -> tuple[int, int]:
    pool = await database.driver("agentos_system")
    rows: Any = await pool.fetch("SELECT provider, requests, tokens FROM model_limits_used(60)")
    return next((row["requests"], row["tokens"]) for row in rows if row["provider"] == provider)


@given(
    steps=lists(
        tuples(
            floats(-5, 40),  # seconds that pass; a clock may be set back
            lists(integers(1, 60), min_size=1, max_size=6),  # tokens that callers want at most
            floats(0, 1),  # the part of them that the calls use
        ),
        max_size=25,
    ),
    limit=sampled_from([(5, 0), (0, 100), (4, 90)]),
)
@settings(max_examples=40, deadline=None)
def test_no_window_ever_holds_more_than_the_limit_and_what_is_free_is_given(
    database_url: str, steps: list[tuple[float, list[int], float]], limit: tuple[int, int]
) -> None:
    asyncio.run(play(database_url, steps, limit))


async def play(database_url: str, steps: list[tuple[float, list[int], float]], limit: tuple[int, int]) -> None:
    held = await asyncpg.connect(database_url, server_settings={"search_path": "agentos"})
    try:
        await held.execute("SET ROLE agentos_system")
        await played(held, steps, limit)
    finally:
        await held.close()


async def played(held: Any, steps: list[tuple[float, list[int], float]], limit: tuple[int, int]) -> None:
    provider, at, granted = f"p{uuid.uuid4().hex}", START, dict[int, tuple[datetime, int]]()
    requests, tokens = limit
    for seconds, wanted, part in steps:
        at += timedelta(seconds=seconds)
        granted = {
            grant: (min(when, at), most) for grant, (when, most) in granted.items() if when > at - timedelta(seconds=60)
        }
        latest = at
        row: Any = await held.fetchrow(TAKE, provider, requests, tokens, wanted, at)
        for grant, most in zip(row["grants"], wanted, strict=False):
            granted[grant] = (latest, most)
        window = [one for when, one in granted.values() if when > latest - timedelta(seconds=60)]
        assert not requests or len(window) <= requests
        assert not tokens or sum(window) <= tokens
        left = wanted[len(row["grants"]) :]
        if left:
            assert (requests and len(window) + 1 > requests) or (tokens and sum(window) + left[0] > tokens)
            assert 0 < row["wait"] <= 60
        used = [int(most * part) for most in wanted[: len(row["grants"])]]
        await held.fetchval("SELECT model_limit_settle($1, $2, $3)", provider, row["grants"], used)
        for grant, actual in zip(row["grants"], used, strict=True):
            granted[grant] = (granted[grant][0], actual)


async def test_the_wait_that_is_told_ends_when_room_comes_free(database: Database, provider: str) -> None:
    pool = await database.driver("agentos_system")
    row: Any = await pool.fetchrow(TAKE, provider, 0, 100, [60, 40], START)
    later = START + timedelta(seconds=20)
    row = await pool.fetchrow(TAKE, provider, 0, 100, [70], later)
    assert (row["grants"], row["wait"]) == ([], 40)
    row = await pool.fetchrow(TAKE, provider, 0, 100, [70], later + timedelta(seconds=40))
    assert len(row["grants"]) == 1


async def test_a_grant_of_a_clock_that_was_ahead_blocks_nobody_for_longer_than_a_window(
    database: Database, provider: str
) -> None:
    pool = await database.driver("agentos_system")
    await pool.fetchrow(TAKE, provider, 1, 0, [10], START + timedelta(hours=1))
    row: Any = await pool.fetchrow(TAKE, provider, 1, 0, [10], START)
    assert (row["grants"], row["wait"]) == ([], 60)
    row = await pool.fetchrow(TAKE, provider, 1, 0, [10], START + timedelta(seconds=60))
    assert len(row["grants"]) == 1


async def test_callers_of_two_processes_get_no_more_than_the_limit_together(database: Database, provider: str) -> None:
    one, other = shared(database, provider, requests=30), shared(database, provider, requests=30)

    async def ask(by: SharedLimits) -> bool:
        try:
            await by.take(provider, 10, within=0.3)
        except ModelRateLimited as refused:
            assert refused.retry_after is not None
            return False
        return True

    got = await asyncio.gather(*(ask(one if number % 2 else other) for number in range(100)))
    assert sum(got) == 30


async def test_a_caller_in_line_is_let_through_when_a_call_turns_out_shorter(database: Database, provider: str) -> None:
    held = shared(database, provider, tokens=1000)
    first = await held.take(provider, 900, within=0)
    second = asyncio.create_task(held.take(provider, 500, within=10))
    await asyncio.sleep(0.05)
    assert not second.done()
    first.settle(100)
    await asyncio.wait_for(second, 5)
    await held.close()


async def test_callers_are_let_through_in_their_order(database: Database, provider: str) -> None:
    held, order = shared(database, provider, tokens=100), list[int]()
    first = await held.take(provider, 100, within=0)

    async def wait(number: int) -> None:
        grant = await held.take(provider, 10 + number, within=10)
        order.append(number)
        grant.settle(0)

    tasks = [asyncio.create_task(wait(number)) for number in range(5)]
    await asyncio.sleep(0.05)
    first.settle(0)
    await asyncio.gather(*tasks)
    assert order == [0, 1, 2, 3, 4]


async def test_a_question_larger_than_the_limit_goes_alone(database: Database, provider: str) -> None:
    held = shared(database, provider, tokens=100)
    await held.take(provider, 5000, within=0)
    with pytest.raises(ModelRateLimited):
        await held.take(provider, 1, within=0)


async def test_whoever_is_cancelled_in_line_leaves_no_trace(database: Database, provider: str) -> None:
    held = shared(database, provider, tokens=100)
    first = await held.take(provider, 100, within=0)
    waiting = asyncio.create_task(held.take(provider, 100, within=10))
    await asyncio.sleep(0.02)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    first.settle(0)
    await asyncio.wait_for(held.take(provider, 100, within=5), 5)


async def test_the_router_settles_what_was_used_and_falls_back_where_there_is_no_room(
    database: Database, provider: str
) -> None:
    own, other = Fake(provider), Fake("b")
    held = shared(database, provider, requests=2)
    router = Router(Fakes(own, other), limit_of(provider, requests=2), limiter=held)
    answered = []
    for _ in range(3):
        attempts: list[Attempt] = []
        routed = await router.ask(router.plan(read(chain(provider, "b"))), QUESTION, attempts=attempts)
        answered.append(routed.answer.provider)
    assert answered == [provider, provider, "b"]
    assert attempts[0].outcome == ModelRateLimited.code
    await held.close()
    assert await used(database, provider) == (2, 30)


async def test_a_grant_of_a_call_that_surely_used_nothing_counts_no_tokens(database: Database, provider: str) -> None:
    own = Fake(provider, else_=ModelOverloaded("529", begun=False))
    held = shared(database, provider, tokens=100_000)
    router = Router(Fakes(own, Fake("b")), limit_of(provider, tokens=100_000), limiter=held)
    await router.ask(router.plan(read(chain(provider, "b"))), QUESTION)
    await held.close()
    assert await used(database, provider) == (1, 0)


def test_the_limit_of_each_provider_is_read_from_its_setting() -> None:
    read_ = RouterSettings.read(claude_rpm=60, claude_tpm=100_000, rate_limits="openai=500/0, other=0/9")
    assert [read_.limit_of(one) for one in ("claude", "openai", "other", "stub")] == [
        (60, 100_000),
        (500, 0),
        (0, 9),
        (0, 0),
    ]


def test_the_window_of_grants_costs_less_than_a_twentieth_of_the_limit() -> None:
    assert limits.WINDOW_SECONDS / (limits.WINDOW_SECONDS + limits.SLACK_SECONDS) >= 0.95


async def test_room_of_which_nothing_was_sent_is_as_if_it_had_never_been_given(
    database: Database, provider: str
) -> None:
    held = shared(database, provider, requests=1)
    for _ in range(3):
        (await held.take(provider, 10, within=5)).give_back()
    await held.close()
    assert await used(database, provider) == (0, 0)


async def test_a_slow_database_burns_no_request(
    database: Database, provider: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    held, slow = shared(database, provider, requests=2), 0
    look = held._look

    async def slowly(*which: Any) -> Any:
        nonlocal slow
        slow += 1
        found = await look(*which)
        monkeypatch.setattr(limits, "LATE_SECONDS", -1.0 if slow < 4 else 60.0)
        return found

    monkeypatch.setattr(held, "_look", slowly)
    await held.take(provider, 10, within=5)
    await held.close()
    assert slow >= 4
    assert await used(database, provider) == (1, 10)

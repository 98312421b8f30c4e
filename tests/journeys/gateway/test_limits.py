"""Stops, caps, turns and switches hold for clients, and every call is counted, also one that is lost."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import timedelta

import anthropic
import openai
import pytest

from agentos.kernel import ids
from agentos.kernel.clock import now
from agentos.kernel.retention import forget
from agentos.runtime.gateway import asking
from agentos.runtime.inference.model import ModelRateLimited
from tests.journeys.conftest import running
from tests.journeys.gateway.conftest import GPT, HELLO, SONNET, House, furnished


async def test_stops_withhold_models_and_the_refusal_cites_them(house: House) -> None:
    admin = house.platform.admin
    entry = {"kind": "deny", "scope": "provider", "target": "claude"}
    denied = (await admin.post("/api/v1/stops", json=entry)).json()
    async with house.openai() as client:
        with pytest.raises(openai.PermissionDeniedError, match=denied["id"]):
            await client.chat.completions.create(model=SONNET, messages=HELLO)
        found = await client.chat.completions.create(
            model=SONNET, messages=HELLO, extra_body={"fallback": [f"openai/{GPT}"]}
        )
        assert found.model == f"openai/{GPT}"
        killed = (await admin.post("/api/v1/stops", json={"kind": "kill", "scope": "organization"})).json()
        with pytest.raises(openai.PermissionDeniedError, match=killed["id"]) as caught:
            await client.chat.completions.create(model=f"openai/{GPT}", messages=HELLO)
    assert caught.value.code == "asking_stopped"
    assert not house.claude.asked
    assert len(house.gpt.asked) == 1
    assert [one["outcome"] for one in await house.facts()] == ["asking_stopped", "ok", "asking_stopped"]


async def test_a_budget_holds_for_clients_and_what_is_left_of_a_reserve_is_given_back(house: House) -> None:
    await house.cap(money="1")
    async with house.openai() as client:
        await client.chat.completions.create(model=SONNET, messages=HELLO)
        used = await house.usage()
        assert (used["calls"], used["tokens"]) == (1, 15)
        assert float(used["reserved_money"]) == 0
        await house.cap(money="0.001")
        with pytest.raises(openai.RateLimitError) as caught:
            await client.chat.completions.create(model=SONNET, messages=HELLO)
    assert caught.value.code == "insufficient_quota"
    assert caught.value.response.headers["x-should-retry"] == "false"
    assert len(house.claude.asked) == 1
    house.claude.next = [ModelRateLimited("wait")]  # surely costs nothing
    await house.cap(money="1")
    async with house.anthropic() as other:
        with pytest.raises(anthropic.RateLimitError):
            await other.messages.create(model=SONNET, max_tokens=100, messages=HELLO)
    used = await house.usage()
    assert (used["calls"], used["tokens"]) == (1, 15)
    assert used["reserved_tokens"] == 0
    assert [one["outcome"] for one in await house.facts()] == ["ok", "budget_exhausted", "ERR_LLM_RATE_LIMITED"]


@pytest.mark.parametrize("streamed", [False, True])
async def test_a_client_that_goes_away_breaks_the_call_off_and_it_is_counted(house: House, streamed: bool) -> None:
    await house.cap(money="1")
    house.claude.pieces, house.claude.pause = ("It", "is"), asyncio.Event()
    body = {"model": SONNET, "messages": HELLO, "max_tokens": 10, "stream": streamed}
    async with house.platform.acting(house.key()) as leaving:
        if streamed:
            async with leaving.stream("POST", "/v1/chat/completions", json=body) as answer:
                async for _line in answer.aiter_lines():
                    await house.until_asked(house.claude)
                    break
        else:
            waiting = asyncio.create_task(leaving.post("/v1/chat/completions", json=body))
            await house.until_asked(house.claude)
            waiting.cancel()
            await asyncio.gather(waiting, return_exceptions=True)
    fact = await house.until_told("cancelled")
    assert house.claude.was_cancelled
    assert fact["micros"] is None
    used = await house.usage()
    assert (used["calls"], used["unknown_calls"], used["reserved_tokens"]) == (1, 1, 0)
    assert used["tokens"] > 10  # at its reserve: nobody knows what the provider bills


async def test_what_a_lost_process_had_reserved_is_settled(house: House) -> None:
    await house.cap(money="1")
    house.claude.pieces, house.claude.pause = ("It",), asyncio.Event()
    async with house.platform.acting(house.key()) as client:
        body = {"model": SONNET, "messages": HELLO, "max_tokens": 10}
        lost = asyncio.create_task(client.post("/v1/chat/completions", json=body))
        async with asyncio.timeout(10):
            while not (await house.usage()).get("reserved_tokens"):
                await asyncio.sleep(0.02)
        database = house.platform.held.parts.database
        await forget(database, asking.KEPT, at=now())
        assert (await house.usage())["reserved_tokens"], "it is young enough to be under way"
        await forget(database, asking.KEPT, at=now() + asking.KEPT.kept + timedelta(seconds=1))
        used = await house.usage()
        assert (used["reserved_tokens"], used["calls"], used["unknown_calls"]) == (0, 1, 1)
        (fact,) = await house.facts()
        assert fact["outcome"] == "lost"
        lost.cancel()
        await asyncio.gather(lost, return_exceptions=True)


def test_the_time_in_an_id_is_what_forgetting_goes_by() -> None:
    one, other = ids.new("ask"), ids.new("ask")
    assert one < other
    assert one[:8] == other[:8]


async def test_calls_that_wait_for_models_take_no_turns_of_their_organization(house: House) -> None:
    house.claude.pieces, house.claude.pause = ("It is so.",), asyncio.Event()
    many = 2 * house.platform.held.requests.at_once
    async with house.openai() as client:
        asked = [asyncio.create_task(client.chat.completions.create(model=SONNET, messages=HELLO)) for _ in range(many)]
        await house.until_asked(house.claude, many)
        house.claude.pause.set()
        answers = await asyncio.gather(*asked)
    assert len({one.id for one in answers}) == many


@pytest.fixture(params=["FORCE_STUB_ADAPTER", "DISABLE_LIVE_ADAPTERS"])
def switch(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setenv(request.param, "true")
    yield request.param


async def test_switches_hold_for_clients_and_a_stub_says_that_it_is_one(
    switch: str, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(database_url, monkeypatch) as platform:
        house = await furnished(platform)
        async with house.openai() as client, house.anthropic() as other:
            if switch == "DISABLE_LIVE_ADAPTERS":
                with pytest.raises(openai.InternalServerError) as caught:
                    await client.chat.completions.create(model=SONNET, messages=HELLO)
                assert caught.value.status_code == 503
                assert switch in caught.value.message
            else:
                found = await client.chat.completions.create(model=SONNET, messages=HELLO)
                assert (found.model, (found.model_extra or {})["provider"]) == ("stub", "stub")
                said = await other.messages.create(model=SONNET, max_tokens=5, messages=HELLO)
                assert said.model == "stub"
            plain = await client.chat.completions.create(model="stub", messages=HELLO)
            assert plain.model == "stub"
            assert plain.choices[0].message.content == "This is the stub: no model was asked."
        assert not house.claude.asked + house.gpt.asked

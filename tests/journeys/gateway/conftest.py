"""Existing clients use our models and agents by changing their base URL: the vendors' own SDKs over real HTTP."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import anthropic
import httpx
import openai
import pytest
from sqlalchemy import text

from agentos.kernel.ids import OrgId
from agentos.runtime.inference import Answer, Question, Usage
from agentos.runtime.inference.ports import Hear, Listed
from tests.journeys.conftest import Platform
from tests.runtime.inference.fakes import Fake, Fakes

SONNET = "claude-sonnet-5"  # the list knows its price


GPT = "gpt-5-mini"


HELLO: Any = [{"role": "user", "content": "hello"}]


WEATHER = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}


class Voice(Fake):
    """A fake model that says its answer in pieces, waits in between where it is told to, and may break off."""

    pieces: tuple[str, ...] = ()
    breaks: Exception | None = None
    pause: asyncio.Event | None = None  # waited for after the first piece
    was_cancelled = False

    async def ask(self, question: Question, *, hear: Hear | None = None) -> Answer:
        if not self.pieces:
            return await super().ask(question, hear=hear)
        self.asked.append(question)
        try:
            for piece in self.pieces:
                if hear is not None:
                    hear(piece)
                if self.pause is not None:
                    await self.pause.wait()
        except asyncio.CancelledError:
            self.was_cancelled = True
            raise
        if self.breaks is not None:
            raise self.breaks
        return Answer("".join(self.pieces), self.provider, question.model, usage=Usage(10, 5))


class Voices(Fakes):
    """Two of them, as a process knows its models."""

    def listing(self) -> list[Listed]:
        return [Listed(name, instant=False, local=False, configured=True) for name in sorted(self.by_name)] + [
            Listed("stub", instant=True, local=True, configured=True)
        ]

    def for_policy(self, policy: dict[str, Any]) -> Any:
        return self.stub if policy.get("provider") == "stub" else super().for_policy(policy)

    stub: Any = None

    async def close(self) -> None:
        pass


@dataclass
class House:
    """A platform whose models are fakes, and the vendors' clients of it."""

    platform: Platform
    claude: Voice
    gpt: Voice

    def key(self, who: httpx.AsyncClient | None = None) -> str:
        found = (who or self.platform.author).headers["Authorization"]
        return str(found).removeprefix("Bearer ")

    @asynccontextmanager
    async def openai(self, key: str | None = None, **more: Any) -> AsyncIterator[openai.AsyncOpenAI]:
        more = {"max_retries": 0, **more}
        async with openai.AsyncOpenAI(
            base_url=f"{self.platform.address}/v1", api_key=key or self.key(), **more
        ) as client:
            yield client

    @asynccontextmanager
    async def anthropic(self, key: str | None = None) -> AsyncIterator[anthropic.AsyncAnthropic]:
        async with anthropic.AsyncAnthropic(
            base_url=self.platform.address, api_key=key or self.key(), max_retries=0
        ) as client:
            yield client

    async def facts(self) -> list[dict[str, Any]]:
        organization = OrgId((await self.platform.admin.get("/api/v1/me")).json()["organization"])
        async with self.platform.held.parts.doors.open(organization) as work:
            rows = await work.all(text("SELECT body FROM outbox WHERE name = 'ModelAsked' ORDER BY seq"))
        return [row.body for row in rows]

    async def until_told(self, outcome: str) -> dict[str, Any]:
        async with asyncio.timeout(10):
            while not (found := [one for one in await self.facts() if one["outcome"] == outcome]):
                await asyncio.sleep(0.02)
        return found[-1]

    async def until_asked(self, voice: Voice, times: int = 1) -> None:
        async with asyncio.timeout(20):
            while len(voice.asked) < times:
                await asyncio.sleep(0.02)

    async def usage(self) -> dict[str, Any]:
        found = (await self.platform.admin.get("/api/v1/budgets/usage")).json()["items"]
        return dict(next((one for one in found if one["agent"] is None and one["period"] == "day"), {}))

    async def cap(self, **caps: Any) -> None:
        answer = await self.platform.admin.put("/api/v1/budgets", json={"period": "day", **caps})
        assert answer.status_code == 200, answer.text
        self.platform.held.parts.books.read.clear()  # what a process has read holds for a second


@pytest.fixture
async def house(platform: Platform) -> House:
    return await furnished(platform)


async def furnished(platform: Platform) -> House:
    claude, gpt = Voice("claude"), Voice("openai")
    voices = Voices(claude, gpt)
    voices.stub = platform.held.models.for_policy({"provider": "stub"})
    platform.held.models = platform.held.parts.models = voices  # type: ignore[assignment]
    for model in (GPT,):
        price = {"provider": "openai", "model": model, "input": "1", "output": "2"}
        assert (await platform.admin.put("/api/v1/budgets/prices", json=price)).status_code == 200
    platform.held.parts.books.read.clear()
    return House(platform, claude, gpt)

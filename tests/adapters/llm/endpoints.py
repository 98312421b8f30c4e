"""The adapters that every misbehaviour is tried on, each before the same server."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

from anthropic import AsyncAnthropic
from openai import AsyncOpenAI
from pydantic_ai.models.anthropic import AnthropicModel
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.anthropic import AnthropicProvider
from pydantic_ai.providers.openai import OpenAIProvider

from agentos.adapters.llm.claude import Claude
from agentos.adapters.llm.openai import endpoints
from agentos.adapters.llm.settings import ClaudeSettings, OpenAISettings
from agentos.adapters.llm.vendors import Vendor
from agentos.runtime.inference import Message, Model, Question, Tool

OURS = ("claude", "openai")
VENDORS = ("vendor:anthropic", "vendor:openai")
TOOL = Tool("git_log", "Read commits", {"type": "object", "properties": {"path": {"type": "string"}}})


@asynccontextmanager
async def asked(name: str, url: str, key: str, **limits: Any) -> AsyncIterator[Model]:
    """An adapter before a server."""
    limits = {"silence_seconds": 0.5, "connect_seconds": 2.0} | limits
    model: Model
    closing: list[Callable[[], Any]] = []
    if name == "claude":
        model = Claude(ClaudeSettings.read(api_key=key, base_url=url, **limits))
    elif name == "openai":
        [model] = endpoints(OpenAISettings.read(api_key=key, base_url=f"{url}/v1", **limits), lambda _: "")
    else:
        if name == "vendor:anthropic":
            one = AsyncAnthropic(api_key=key, base_url=url, timeout=limits["silence_seconds"])
            theirs: Any = AnthropicModel("claude-opus-5-5", provider=AnthropicProvider(anthropic_client=one))
            closing.append(one.close)
        else:
            other = AsyncOpenAI(api_key=key, base_url=f"{url}/v1", timeout=limits["silence_seconds"])
            theirs = OpenAIChatModel("gpt-test-1", provider=OpenAIProvider(openai_client=other))
            closing.append(other.close)
        model = Vendor(name, lambda _: theirs)
    try:
        yield model
    finally:
        await model.close()
        for close in closing:
            await close()


def question(*messages: Message, **given: Any) -> Question:
    said = messages or (Message("user", "Hi"),)
    given.setdefault("timeout", timedelta(seconds=20))
    return Question(model="model-test-1", system="Be brief.", messages=said, **given)

"""A vendor's own client, streaming, without retries. Arguments: ``anthropic`` or ``openai``, the server's address."""

from __future__ import annotations

import sys

import uvloop
from answering import answer_calls, versions
from anthropic import AsyncAnthropic
from asking import FIRST, KEY, MOST_TOKENS, SECOND, SYSTEM, TEXT, by
from openai import AsyncOpenAI


async def main() -> None:
    name, url = sys.argv[1:]
    claude = AsyncAnthropic(api_key=KEY, base_url=url, max_retries=0)
    chat = AsyncOpenAI(api_key=KEY, base_url=f"{url}/v1", max_retries=0)

    async def ask_claude(_kind: str, timeout: float) -> str:
        async with claude.messages.stream(
            model=FIRST,
            max_tokens=MOST_TOKENS,
            system=SYSTEM,
            messages=[{"role": "user", "content": TEXT}],
            timeout=timeout,
        ) as stream:
            said = await stream.get_final_message()
        return by(said.model, "".join(block.text for block in said.content if block.type == "text"))

    async def ask_chat(_kind: str, timeout: float) -> str:
        text, model = "", ""
        stream = await chat.chat.completions.create(
            model=SECOND,
            max_tokens=MOST_TOKENS,
            messages=[{"role": "system", "content": SYSTEM}, {"role": "user", "content": TEXT}],
            stream=True,
            timeout=timeout,
        )
        async for chunk in stream:
            model = chunk.model
            text += (chunk.choices[0].delta.content or "") if chunk.choices else ""
        return by(model, text)

    await answer_calls(
        {"settings": f"{versions(name)}; streaming, its default HTTP client"},
        ask_claude if name == "anthropic" else ask_chat,
    )


if __name__ == "__main__":
    uvloop.run(main())

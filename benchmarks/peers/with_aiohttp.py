"""The bare call: one POST of bytes that are ready, and the answer's bytes unread. Argument: the server's address."""

from __future__ import annotations

import json
import sys

import aiohttp
import uvloop
from answering import answer_calls, versions
from asking import FIRST, KEY, MOST_TOKENS, SYSTEM, TEXT

BODY = json.dumps(
    {
        "model": FIRST,
        "max_tokens": MOST_TOKENS,
        "stream": True,
        "system": SYSTEM,
        "messages": [{"role": "user", "content": TEXT}],
    }
).encode()
HEADERS = {"x-api-key": KEY, "anthropic-version": "2023-06-01", "content-type": "application/json"}


async def main() -> None:
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:

        async def ask(_kind: str, timeout: float) -> str:
            wait = aiohttp.ClientTimeout(total=timeout)
            url = f"{sys.argv[1]}/v1/messages"
            async with session.post(url, data=BODY, headers=HEADERS, timeout=wait) as response:
                assert response.status == 200
                await response.read()
            return "first"

        await answer_calls({"settings": f"{versions('aiohttp')}; nothing is parsed"}, ask)


if __name__ == "__main__":
    uvloop.run(main())

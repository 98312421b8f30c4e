"""A process of callers of our router, over its real adapters: no database, or (``limited``) the shared limits in one.

Argument: the fake vendors' address, then perhaps ``limited``.
"""

from __future__ import annotations

import sys
from datetime import timedelta
from typing import Final

import uvloop
from pydantic import SecretStr

from agentos.adapters.llm import Providers
from agentos.adapters.llm.settings import ClaudeSettings, OpenAISettings
from agentos.kernel.database import Database
from agentos.kernel.settings import DatabaseSettings
from agentos.runtime.inference import Message, Question, routing
from agentos.runtime.inference.gate import Unanswered
from agentos.runtime.inference.limits import SharedLimits
from agentos.runtime.inference.router import Router
from benchmarks.peers.answering import answer_calls, versions
from benchmarks.peers.asking import FIRST, KEY, MOST_TOKENS, SECOND, SYSTEM, TEXT, by

PLAIN: Final = {"provider": "claude", "name": FIRST, "max_tokens": MOST_TOKENS}
CHAIN: Final = PLAIN | {
    "fallback": [{"provider": "openai", "name": SECOND, "max_tokens": MOST_TOKENS}],
    "routing": {"costlier": "allowed"},
}
# About 1,000 tokens by its length, as the fake vendor bills it.
LONG: Final = " ".join([TEXT] * 26)


async def main() -> None:
    """Answer the questions of the benchmark."""
    url, limited = sys.argv[1], sys.argv[2:] == ["limited"]
    claude = ClaudeSettings.read(api_key=SecretStr(KEY), base_url=url)
    models = Providers(claude, OpenAISettings.read(api_key=SecretStr(KEY), base_url=f"{url}/v1"), lambda _name: KEY)
    database = Database(DatabaseSettings.read()) if limited else None
    router = Router(models)
    limits = None if database is None else SharedLimits(database, router.settings)
    if limits is not None:
        router = Router(models, router.settings, limiter=limits)
    routes = {"plain": routing.read(PLAIN), "chain": routing.read(CHAIN)}
    messages = (Message("user", LONG if limited else TEXT),)

    async def ask(kind: str, timeout: float) -> str:
        question = Question("", SYSTEM, messages, max_tokens=MOST_TOKENS, timeout=timedelta(seconds=timeout))
        try:
            routed = await router.ask(router.plan(routes[kind]), question)
        except Unanswered as none:
            raise none.error or none from None
        return by(routed.answer.model, routed.answer.text)

    told = f"{versions('agentos', 'aiohttp')}; {'limits shared in PostgreSQL' if limited else 'no database'}"
    await answer_calls({"settings": told}, ask)
    if limits is not None:
        await limits.close()
    await models.close()
    if database is not None:
        await database.close()


if __name__ == "__main__":
    uvloop.run(main())

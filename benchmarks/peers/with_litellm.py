"""LiteLLM's Router, streaming: a model, and one that it falls back to. Argument: the server's address.

It retries nothing by itself, as ours does not, and falls back at once. Its limits of failures and its cooldown are its
defaults.
"""

from __future__ import annotations

import os
import sys

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # it would fetch prices from the network when imported

import litellm
import uvloop
from answering import answer_calls, versions
from asking import FIRST, KEY, MOST_TOKENS, SECOND, SYSTEM, TEXT, by
from litellm import Router

MESSAGES = [{"role": "system", "content": SYSTEM}, {"role": "user", "content": TEXT}]


async def main() -> None:
    url = sys.argv[1]
    litellm.suppress_debug_info = True
    router = Router(
        model_list=[
            {"model_name": name, "litellm_params": {"model": model, "api_base": base, "api_key": KEY}}
            for name, model, base in (
                ("plain", f"anthropic/{FIRST}", url),
                ("chain", f"anthropic/{FIRST}", url),
                ("spare", f"openai/{SECOND}", f"{url}/v1"),
            )
        ],
        fallbacks=[{"chain": ["spare"]}],
        num_retries=0,
    )

    async def ask(kind: str, timeout: float) -> str:
        text, model = "", ""
        stream = await router.acompletion(
            model=kind, messages=MESSAGES, max_tokens=MOST_TOKENS, stream=True, timeout=timeout
        )
        async for chunk in stream:
            model = chunk.model or model
            text += (chunk.choices[0].delta.content or "") if chunk.choices else ""
        return by(model, text)

    await answer_calls(
        {"settings": f"{versions('litellm')}; Router, num_retries 0, one fallback, prices from its own file"}, ask
    )


if __name__ == "__main__":
    uvloop.run(main())

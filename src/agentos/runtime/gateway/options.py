"""What a client wishes of an answer, in the words of the provider that is asked: one entry of a model policy.

A wish that a provider has no word for is left out where the answer is only likelier to be good with it, as the vendors'
own layers of compatibility do, and refused where the answer would be another.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from agentos.runtime.gateway import wire
from agentos.runtime.gateway.model import STUB, Wanted, Wishes

CLAUDE: Final = "claude"
VENDOR: Final = "vendor:"  # of pydantic-ai, which has words of its own

# Wish → the provider's option. What stands in no table is left out.
_CHAT: Final = {
    "temperature": "temperature",
    "top_p": "top_p",
    "seed": "seed",
    "frequency_penalty": "frequency_penalty",
    "presence_penalty": "presence_penalty",
    "logit_bias": "logit_bias",
    "reasoning_effort": "reasoning_effort",
    "verbosity": "verbosity",
    "user": "user",
}
_CLAUDE: Final = {"temperature": "temperature", "top_p": "top_p", "top_k": "top_k", "thinking": "thinking"}
_VENDOR: Final = {
    "temperature": "temperature",
    "top_p": "top_p",
    "top_k": "top_k",
    "seed": "seed",
    "frequency_penalty": "frequency_penalty",
    "presence_penalty": "presence_penalty",
}
# Wishes that make another answer, so that they are never left out.
_BINDING: Final = ("top_k", "frequency_penalty", "presence_penalty", "logit_bias")


def entry(provider: str, name: str, wanted: Wanted, most_tokens: int) -> dict[str, Any]:
    """A model as a policy names it. Raises NotOffered (Invalid) for a wish that it cannot meet."""
    policy: dict[str, Any] = {"provider": provider, "max_tokens": most_tokens}
    if provider == STUB:
        return policy | ({"behaviour": name} if name else {})
    policy["name"] = name
    wishes = wanted.wishes
    words = _CLAUDE if provider == CLAUDE else _VENDOR if provider.startswith(VENDOR) else _CHAT
    for wish in _BINDING:
        if wish not in words and getattr(wishes, wish):
            raise wire.not_offered(wish, f"{wish} with '{provider[:40]}'", "Leave it out, or ask another provider.")
    found = {option: getattr(wishes, wish) for wish, option in words.items()}
    policy |= {option: value for option, value in found.items() if value is not None}
    if wishes.stop:
        policy["stop" if words is _CHAT else "stop_sequences"] = list(wishes.stop)
    if wanted.tools:
        policy |= _tools(words, wishes)
    if provider == CLAUDE:
        policy["cache"] = wishes.cache  # what is written into the cache costs more, so it is the client's to say
        if wishes.user is not None:
            policy["metadata"] = {"user_id": wishes.user}
    return policy


def _tools(words: Mapping[str, str], wishes: Wishes) -> dict[str, Any]:
    choice, parallel = wishes.tool_choice, wishes.parallel
    if words is _CLAUDE:
        if choice is None and parallel is None:
            return {}
        said: dict[str, Any] = {"type": choice or "auto"}
        if choice == "tool":
            said["name"] = wishes.tool
        if parallel is not None and choice != "none":
            said["disable_parallel_tool_use"] = not parallel
        return {"tool_choice": said}
    found: dict[str, Any] = {} if parallel is None else {"parallel_tool_calls": parallel}
    if choice == "tool":
        named = {"type": "function", "function": {"name": wishes.tool}}
        found["tool_choice"] = [wishes.tool] if words is _VENDOR else named
    elif choice is not None:
        found["tool_choice"] = "required" if choice == "any" else choice
    return found

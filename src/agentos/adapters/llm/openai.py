"""Models of the chat completions wire format: OpenAI's, and those of every server that speaks it."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, Final

from agentos.adapters.llm.endpoint import Endpoint, Failure, Place
from agentos.adapters.llm.openai_errors import failure_of
from agentos.adapters.llm.openai_wire import PASSED_ON, WITH_TOOLS, Draft, encode, request
from agentos.adapters.llm.policies import ModelPolicyInvalid, check_name, check_switch
from agentos.adapters.llm.settings import OpenAISettings
from agentos.kernel.errors import NotFound
from agentos.kernel.settings import BadSetting
from agentos.runtime.inference.ports import Hear, Question

OPENAI: Final = "openai"
TAKEN: Final = ("stub", "claude", OPENAI, "vendor")
LIMITS: Final = ("max_tokens", "max_completion_tokens")
OURS: Final = frozenset(
    {*PASSED_ON, *WITH_TOOLS, *LIMITS, "model", "messages", "stream", "stream_options", "tools", "response_format"}
)

_ENDPOINT: Final = re.compile(r"(?P<name>[a-z][a-z0-9-]{0,39})=(?P<address>https?://[^\s?#@,]+)")


class ChatCompletions:
    """The dialect. ``limit`` is what the server calls the most tokens of an answer, where the policy does not say."""

    path: str = "/chat/completions"

    def __init__(self, limit: str) -> None:
        self.limit = limit

    def headers(self, key: str) -> dict[str, str]:
        return {"authorization": f"Bearer {key}"} if key else {}

    def body(self, question: Question) -> bytes:
        return encode(request(question, self.limit))

    def draft(self, provider: str, question: Question, hear: Hear | None) -> Draft:
        return Draft(provider, question, hear)

    def failure(self, status: int, body: bytes) -> Failure | None:
        return failure_of(status, body)


class OpenAI(Endpoint):
    """The models behind one address and key."""

    def __init__(self, place: Place) -> None:
        # OpenAI's own models that reason know only the newer name; other servers know at least the older one.
        super().__init__(place, ChatCompletions(LIMITS[place.provider == OPENAI]))


def endpoints(settings: OpenAISettings, secret: Callable[[str], str]) -> list[OpenAI]:
    """Provider openai, and one for each further endpoint of the settings. Raises BadSetting."""
    local = {name.strip() for name in settings.local.split(",") if name.strip()}
    places = [
        Place(
            provider=OPENAI,
            address=settings.base_url,
            key=settings.api_key.get_secret_value,
            limits=settings,
            key_from="OPENAI_API_KEY",
            address_from="OPENAI_BASE_URL",
            local=OPENAI in local,
        )
    ]
    for number, written in enumerate(settings.endpoints.split(","), 1):
        if not written.strip():
            continue
        found = _ENDPOINT.fullmatch(written.strip())
        if found is None or found["name"] in TAKEN or found["name"] in {place.provider for place in places}:
            raise BadSetting(
                f"AGENTOS_OPENAI_ENDPOINTS: number {number} is no name=address, or its name is taken",
                then="Write for example openrouter=https://openrouter.ai/api/v1,local=http://127.0.0.1:11434/v1.",
            )
        places.append(
            Place(
                provider=found["name"],
                address=found["address"],
                key=_key(secret, f"{found['name']}-key"),
                limits=settings,
                key_from=f"AGENTOS_SECRET_{found['name'].upper().replace('-', '_')}_KEY",
                address_from="AGENTOS_OPENAI_ENDPOINTS",
                local=found["name"] in local,
            )
        )
    if strange := sorted(local - {place.provider for place in places}):
        raise BadSetting(
            f"AGENTOS_OPENAI_LOCAL: there is no endpoint '{strange[0][:40]}'",
            then="Name openai, or names from AGENTOS_OPENAI_ENDPOINTS.",
        )
    return [OpenAI(place) for place in places]


def check_policy(policy: Mapping[str, Any]) -> None:
    """Refuse a policy that no call could be made with. Raises ModelPolicyInvalid."""
    check_name(policy, "gpt-…")
    check_switch(policy, "structured")
    if policy.get("limit_field", LIMITS[0]) not in LIMITS:
        raise ModelPolicyInvalid(
            "limit_field is what the server calls the most tokens of an answer",
            where="limit_field",
            then=f"Write one of {', '.join(LIMITS)}.",
        )
    extra = policy.get("extra", {})
    if not isinstance(extra, Mapping):
        raise ModelPolicyInvalid("extra is a mapping", where="extra", then="Write extra: {name: value}.")
    if taken := sorted(OURS & set(extra)):
        raise ModelPolicyInvalid(
            f"extra is for what only this server knows, and '{taken[0]}' has its own place",
            where=f"extra.{taken[0]}",
            then=f"Write {taken[0]} beside extra, or leave it out.",
        )


def _key(secret: Callable[[str], str], name: str) -> Callable[[], str]:
    def key() -> str:
        try:
            return secret(name)
        except NotFound:
            return ""

    return key

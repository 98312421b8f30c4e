"""Models of the Anthropic Messages wire format."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from agentos.adapters.llm.claude_errors import failure_of
from agentos.adapters.llm.claude_wire import Draft, encode, request
from agentos.adapters.llm.endpoint import Endpoint, Failure, Place
from agentos.adapters.llm.policies import ModelPolicyInvalid, check_name, check_switch
from agentos.adapters.llm.settings import ClaudeSettings
from agentos.runtime.inference.ports import Hear, Question

WIRE_VERSION: Final = "2023-06-01"  # 2026-10-21 refuses temperature, which model policies may hold
THINKING_LEAST: Final = 1024  # tokens; the wire's own least


class Messages:
    """The dialect."""

    path: str = "/v1/messages"

    def headers(self, key: str) -> dict[str, str]:
        return {"x-api-key": key, "anthropic-version": WIRE_VERSION}

    def body(self, question: Question) -> bytes:
        return encode(request(question))

    def draft(self, provider: str, question: Question, hear: Hear | None) -> Draft:
        return Draft(provider, question.model, hear)

    def failure(self, status: int, body: bytes) -> Failure | None:
        return failure_of(status, body)


class Claude(Endpoint):
    """The models behind one key of Anthropic, or of a gateway that speaks its format."""

    def __init__(self, settings: ClaudeSettings) -> None:
        place = Place(
            provider="claude",
            address=settings.base_url,
            key=settings.api_key.get_secret_value,
            limits=settings,
            key_from="ANTHROPIC_API_KEY",
            address_from="ANTHROPIC_BASE_URL",
        )
        super().__init__(place, Messages())


def check_policy(policy: Mapping[str, Any]) -> None:
    """Refuse a claude policy that no call could be made with. Raises ModelPolicyInvalid."""
    check_name(policy, "claude-…")
    check_switch(policy, "cache")
    check_switch(policy, "structured")
    thinking = policy.get("thinking", "model_default")
    kind = thinking.get("type") if isinstance(thinking, dict) else thinking
    if kind not in ("model_default", "enabled", "adaptive", "disabled") or isinstance(thinking, str) != (
        kind == "model_default"
    ):
        raise ModelPolicyInvalid(
            "thinking is model_default, or as the Messages API words it",
            where="thinking",
            then="Write thinking: {type: adaptive}, or {type: enabled, budget_tokens: 2048}.",
        )
    if kind == "enabled":
        budget, most = thinking.get("budget_tokens"), policy.get("max_tokens", 4096)
        if isinstance(budget, bool) or not isinstance(budget, int) or not THINKING_LEAST <= budget < most:
            raise ModelPolicyInvalid(
                "thinking takes its tokens from max_tokens",
                where="thinking.budget_tokens",
                then=f"Write a whole number from {THINKING_LEAST} to below max_tokens, which is {most}.",
            )

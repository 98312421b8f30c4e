"""Models by vendor: one file each. ``Providers`` is what a process hands to its runs."""

from __future__ import annotations

from typing import Any, Final

from agentos.adapters.llm import stub
from agentos.adapters.llm.claude import Claude
from agentos.adapters.llm.settings import ClaudeSettings
from agentos.adapters.llm.stub import Stub
from agentos.kernel.errors import Invalid
from agentos.runtime.inference import Model, routing
from agentos.runtime.inference.model import ModelNotConfigured
from agentos.runtime.inference.ports import Listed

MOST_TOKENS: Final = 1_000_000  # of an answer; eight times what the longest-winded models can say


class ModelPolicyInvalid(Invalid):
    """A version's model policy names no provider there is, or lacks what its provider needs."""

    code = "model_policy_invalid"


class Providers:
    """The models that this process can ask: the stub always, claude when it has a key."""

    def __init__(self, claude: ClaudeSettings) -> None:
        self._models: dict[str, Model] = {"stub": Stub()}
        if claude.api_key.get_secret_value():
            self._models["claude"] = Claude(claude)

    def for_policy(self, policy: dict[str, Any]) -> Model:
        """The model that a version's policy names. Raises ModelNotConfigured (Unavailable)."""
        provider = str(policy.get("provider"))
        found = self._models.get(provider)
        if found is None:
            raise ModelNotConfigured(
                f"the model provider '{provider}' is not configured in this process",
                then="Set ANTHROPIC_API_KEY for API and workers." if provider == "claude" else "",
            )
        return found

    def check(self, policy: dict[str, Any]) -> None:
        """Refuse a model policy that no process could serve. Raises Invalid."""
        if routing.check(policy, self.check):
            return
        provider, most = policy.get("provider"), policy.get("max_tokens", 1)
        if isinstance(most, bool) or not isinstance(most, int) or not 1 <= most <= MOST_TOKENS:
            raise ModelPolicyInvalid(
                "max_tokens is the most that an answer may be, which is also what its budget is asked for",
                where="max_tokens",
                then=f"Write a whole number from 1 to {MOST_TOKENS}.",
            )
        if provider == "stub":
            stub.check_policy(policy)
        elif provider == "claude":
            if not isinstance(policy.get("name"), str) or not policy["name"]:
                raise ModelPolicyInvalid(
                    "a claude policy names its model", where="model.name", then="Write name: claude-…"
                )
        else:
            raise ModelPolicyInvalid(
                f"there is no model provider '{str(provider)[:40]}'",
                where="model.provider",
                then="Use stub or claude.",
            )

    def listing(self) -> tuple[Listed, ...]:
        """Every provider there is, configured or not, by name."""
        claude = self._models.get("claude")
        return (
            Listed("claude", instant=False, local=False, configured=claude is not None),
            Listed("stub", instant=True, local=True, configured=True),
        )

    async def close(self) -> None:
        """Give back connections."""
        for model in self._models.values():
            await model.close()

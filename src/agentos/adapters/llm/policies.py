"""What every model policy has to say, whichever provider it names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from agentos.kernel.errors import Invalid
from agentos.runtime.inference.model import MOST_TOKENS

MOST_NAME: Final = 200


class ModelPolicyInvalid(Invalid):
    """A version's model policy names no provider there is, or lacks what its provider needs."""

    code = "model_policy_invalid"


def check_limit(policy: Mapping[str, Any]) -> None:
    """Refuse a ``max_tokens`` that no budget could be asked for. Raises ModelPolicyInvalid."""
    most = policy.get("max_tokens", 1)
    if isinstance(most, bool) or not isinstance(most, int) or not 1 <= most <= MOST_TOKENS:
        raise ModelPolicyInvalid(
            "max_tokens is the most that an answer may be, which is also what its budget is asked for",
            where="max_tokens",
            then=f"Write a whole number from 1 to {MOST_TOKENS}.",
        )


def check_name(policy: Mapping[str, Any], example: str) -> None:
    """Refuse a policy that names no model. Raises ModelPolicyInvalid."""
    name = policy.get("name")
    if not isinstance(name, str) or not 0 < len(name) <= MOST_NAME or not name.isprintable():
        raise ModelPolicyInvalid(
            f"a policy of '{policy.get('provider')}' names its model", where="name", then=f"Write name: {example}"
        )


def check_switch(policy: Mapping[str, Any], name: str) -> None:
    """Refuse a switch that is neither on nor off. Raises ModelPolicyInvalid."""
    if not isinstance(policy.get(name, False), bool):
        raise ModelPolicyInvalid(f"{name} is on or off", where=name, then=f"Write {name}: true or {name}: false.")

"""What the checks of an agent need to know from outside."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from agentos.control.policy.model import EffectClass


@dataclass(frozen=True, slots=True)
class Resolved:
    """A skill that can be called: what pins its behaviour, and what it can do to the world."""

    digest: str
    effect: EffectClass
    input_schema: Mapping[str, Any] = field(default_factory=dict)  # of its arguments


class SkillCatalogue(Protocol):
    """The skills that are loaded."""

    def resolve(self, name: str, version: str) -> Resolved:
        """The skill of that name and version. Raises a NotFound that names what there is."""
        ...


class ModelCatalogue(Protocol):
    """The models that can be asked."""

    def check(self, policy: Mapping[str, Any]) -> None:
        """Accept a version's model policy. Raises an Invalid whose ``where`` is a path below the policy."""
        ...

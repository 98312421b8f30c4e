"""What the checks of an agent need to know from outside."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from agentos.control.policy.model import EffectClass
from agentos.kernel.unit_of_work import UnitOfWork


@dataclass(frozen=True, slots=True)
class Resolved:
    """A skill that can be called: which version, what pins its behaviour, and what it can do to the world."""

    version: str
    digest: str
    effect: EffectClass
    input_schema: Mapping[str, Any] = field(default_factory=dict)  # of its arguments


class SkillCatalogue(Protocol):
    """The skills that are loaded."""

    async def settle(self) -> None:
        """Return once what is loaded was compared with what is registered. Raises an Unavailable."""
        ...

    def resolve(self, name: str, wanted: str) -> Resolved:
        """The skill of that name whose version is wanted: an exact one, the highest in a range, or ``latest``.

        Raises a NotFound that names what there is, an Invalid for what names no version, or a Conflict for a skill that
        differs from what is registered.
        """
        ...

    async def breaking(self, work: UnitOfWork, name: str, was: str, now: str) -> Sequence[str]:
        """Why version ``now`` of a skill breaks who relied on version ``was``; nothing when it does not."""
        ...


class ModelCatalogue(Protocol):
    """The models that can be asked."""

    def check(self, policy: Mapping[str, Any]) -> None:
        """Accept a version's model policy. Raises an Invalid whose ``where`` is a path below the policy."""
        ...

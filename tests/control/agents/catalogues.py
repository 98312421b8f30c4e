"""Skills and models that exist because a test says so."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from agentos.control.agents.ports import Resolved
from agentos.control.policy.model import EffectClass
from agentos.kernel.errors import Invalid, NotFound
from agentos.kernel.unit_of_work import UnitOfWork


class NoSuchSkill(NotFound):
    """The catalogue does not hold it."""

    code = "no_such_skill"


class NoSuchModel(Invalid):
    """The catalogue does not hold it."""

    code = "no_such_model"


class Skills:
    """Skills by name and version, with a digest that tests may change."""

    def __init__(self, *known: str) -> None:
        self.digests = {name: f"sha256:{name}" for name in known}
        self.meant: dict[str, str] = {}  # what a range means, by name@range
        self.broken: dict[str, tuple[str, ...]] = {}  # why a version of a skill breaks the one before, by name@version

    async def settle(self) -> None:
        """There is nothing to compare with."""

    def resolve(self, name: str, wanted: str) -> Resolved:
        version = self.meant.get(f"{name}@{wanted}", wanted)
        found = self.digests.get(f"{name}@{version}")
        if found is None:
            raise NoSuchSkill(f"skill '{name}' version '{version}' is not loaded", then="Check the spelling.")
        return Resolved(version, found, EffectClass.S0)

    async def breaking(self, work: UnitOfWork, name: str, was: str, now: str) -> tuple[str, ...]:
        return self.broken.get(f"{name}@{now}", ())


class Models:
    """Accepts the provider ``stub``."""

    def check(self, policy: Mapping[str, Any]) -> None:
        if policy.get("provider") != "stub":
            raise NoSuchModel(f"no model '{policy.get('provider')}'", where="provider", then="Write stub.")


def document(name: str = "writer", *, tier: str = "L3", category: str = "docs", **spec: Any) -> dict[str, Any]:
    """A manifest's document."""
    return {
        "apiVersion": "agentos/v1",
        "kind": "Agent",
        "metadata": {"name": name, "category": category, "owner": "team"},
        "spec": {"instructions": "Write.", "model": {"provider": "stub"}, "tier": tier, **spec},
    }
